#!/usr/bin/env python3
"""What the heap profile costs real programs, in instructions counted by callgrind: repeatable, whatever else the machine does.

    bench/profile_cost.py                 the table, in Markdown
    bench/profile_cost.py --only sqlite3

Each program runs with MEMLIMIT_PROFILE off, on (a sample each 512 KiB), at 64 KiB and at 4 KiB. A cell is the quotient of the
whole process's instructions to those with the profile off. Cache misses are not in it.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
INTERVALS = ("off", "on", "64KiB", "4KiB")
PYTHON = """
import json, re
kept = [{"id": i, "name": "x" * (i % 100), "values": [i] * 5} for i in range(30000)]
for _ in range(10):
    text = json.dumps(kept[:10000])
    back = json.loads(text)
words = re.findall(r"[a-z]+", text)
for i in range(60000):
    block = bytes(600 + i % 3000)
"""
SQL = """
create table t(a integer primary key, b text, c real);
with recursive n(x) as (select 1 union all select x + 1 from n where x < 60000)
  insert into t select x, hex(x * 7919 % 65537) || 'abcdefghij', x / 7.0 from n;
create index i on t(b);
select count(*), sum(length(b)), max(c) from t where b > '7';
select substr(b, 1, 2), count(*) from t group by 1 order by 2 desc limit 5;
"""
PERL = "my %h; for my $i (1..150000) { $h{$i % 40000} = 'x' x ($i % 300); push @{$l[$i % 50]}, $i; }"
CXX = "#include <map>\n#include <string>\n#include <vector>\nint f() { std::map<std::string, std::vector<int>> m; m[\"a\"].push_back(1); return m.size(); }\n"


def programs(directory):
    source = directory / "unit.cc"
    source.write_text(CXX, encoding="utf-8")
    # Read with its headers: the compiler proper does not know where they are.
    whole = directory / "unit.ii"
    subprocess.run(["g++", "-E", str(source), "-o", str(whole)], check=True)
    compiler = subprocess.run(["g++", "-print-prog-name=cc1plus"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "python3": (["/usr/bin/python3", "-I", "-S", "-c", PYTHON], ""),
        "python3, `PYTHONMALLOC=malloc`": (["/usr/bin/python3", "-S", "-c", PYTHON], ""),
        "sqlite3": (["sqlite3", "-batch", ":memory:"], SQL),
        "perl": (["perl", "-e", PERL], ""),
        "g++ (cc1plus)": ([compiler, "-quiet", "-O1", str(whole), "-o", "/dev/null"], ""),
    }


def count(command, text, build, name, interval):
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": "/", "PYTHONHASHSEED": "0", "PERL_HASH_SEED": "0",
        "LD_PRELOAD": str(build / "preload" / "libmemlimit.so"), "MEMLIMIT_SOCKET": "off", "MEMLIMIT_PROFILE": interval,
    }
    if "PYTHONMALLOC" in name:
        environment["PYTHONMALLOC"] = "malloc"
    # The same addresses each time, as far as the kernel goes.
    done = subprocess.run(
        ["setarch", "-R", "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        input=text, env=environment, capture_output=True, text=True, errors="replace", check=False,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        sys.exit(f"profile_cost: {name}: status {done.returncode}\n{done.stderr[-2000:]}")
    return int(found[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--only", nargs="*", default=[], help="parts of programs' names")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    print("| program | instructions, off | on | 64 KiB | 4 KiB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for name, (command, text) in programs(pathlib.Path(directory)).items():
            if arguments.only and not any(part in name for part in arguments.only):
                continue
            counts = [count(command, text, build, name, interval) for interval in INTERVALS]
            quotients = " | ".join(f"{each / counts[0]:.4f}" for each in counts[1:])
            print(f"| {name} | {counts[0] / 1e6:,.0f} M | {quotients} |", flush=True)


if __name__ == "__main__":
    os.environ.pop("LD_PRELOAD", None)
    main()
