#!/usr/bin/env python3
"""What programs that hold much are resident with, where memory is plentiful: no limit, nothing is reclaimed.

    bench/density.py               resident MiB, ratios to glibc
    bench/density.py --only ruby   one of them; a program that is not installed is left out

Each program builds what it holds, says that it is up, and is left alone for a second; then its VmRSS is read. Of the
compilers the peak counts, since they hold what they hold until they end. That is memory and not time: other work on the
machine changes nothing. What a program holds is the same in each run, so three are enough.
"""

import argparse
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import benchlib
import real
from benchlib import Allocator, BenchError, Run

SETTLE_S = 1.0
# The first is the worst case that was met with few size classes: a Python object of 1,033 bytes.
PYTHON_BLOCKS = """
import sys
held = [bytes(1000) for _ in range(25000)]
print('up', flush=True)
sys.stdin.read()
"""
PYTHON_RECORDS = """
import sys
held = {str(i): {'name': 'n' * (i % 97), 'tags': list(range(i % 13)), 'text': 't' * (i * 7 % 1500)} for i in range(40000)}
print('up', flush=True)
sys.stdin.read()
"""
RUBY = """
held = Array.new(120_000) { |i| { id: i, text: 't' * (i * 7 % 700), tags: Array.new(i % 13) { |k| k } } }
puts 'up'
$stdout.flush
$stdin.read
"""
NODE = """
const held = Array.from({length: 40000}, (_, i) => ({name: 'n' + i, data: Buffer.alloc(64 + i * 7 % 3000, 1)}));
console.log('up');
process.stdin.on('end', () => console.log(held.length)).resume();
"""
SQL = """
create table held(id integer primary key, name text, data blob);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
  insert into held select i, 'name ' || i, randomblob(i * 7 % 900) from n;
create index names on held(name);
.print up
"""
KEYS = 100_000


def resident_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


class Programs:
    """The cases: each method runs one program once under an allocator and returns a Run."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.compilers = real.Programs(options, folder)

    def held(self, argv, allocator, first_input=""):
        environment = allocator.environment()
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=environment, cwd=self.folder) as process:
            try:
                process.stdin.write(first_input)
                process.stdin.flush()
                if process.stdout.readline().strip() != "up":
                    raise BenchError(f"{allocator.name}: {argv[0]}: {process.stderr.read()[-500:]}")
                time.sleep(SETTLE_S)
                return Run(0, 0, 0, resident_mib(process.pid))
            finally:
                process.kill()

    def python_blocks(self, allocator):
        return self.held(["/usr/bin/python3", "-S", "-c", PYTHON_BLOCKS], allocator)

    def python_records(self, allocator):
        return self.held(["/usr/bin/python3", "-S", "-c", PYTHON_RECORDS], allocator)

    def ruby(self, allocator):
        return self.held(["ruby", "--disable-gems", "-e", RUBY], allocator)

    def node(self, allocator):
        return self.held(["node", "-e", NODE], allocator)

    def sqlite3(self, allocator):
        return self.held(["sqlite3", "-batch", ":memory:"], allocator, SQL)

    def redis(self, allocator):
        if allocator.name == "glibc":
            # Debian's redis-server is linked with jemalloc; the C library in front of it wins.
            allocator = Allocator("glibc", benchlib.library_path(["libc.so.6"]))
        sizes = random.Random(1)
        with real.RedisServer(self.options, self.folder, allocator) as server:
            commands = [f"SET key:{i} {'v' * sizes.choice((10, 40, 100, 300, 900, 2500))}\r\n" for i in range(KEYS)]
            load = subprocess.run(["redis-cli", "-s", str(server.path), "--pipe"], input="".join(commands), text=True,
                                  capture_output=True, env=benchlib.clean_environment(), check=False)
            if load.returncode != 0 or f"replies: {KEYS}" not in load.stdout:
                raise BenchError(f"redis-cli: {load.stdout[-300:]}{load.stderr[-300:]}")
            time.sleep(SETTLE_S)
            resident = server.resident_mib()
        return Run(0, 0, 0, resident)

    def gcc(self, allocator):
        return Run(0, 0, 0, self.compilers.gcc(allocator).rss)

    def gxx(self, allocator):
        return Run(0, 0, 0, self.compilers.gxx(allocator).rss)


CASES = {
    # case -> (program that must be there, method of Programs)
    "python3, 25,000 blocks of 1,033 bytes": ("/usr/bin/python3", "python_blocks"),
    "python3, 40,000 records": ("/usr/bin/python3", "python_records"),
    "ruby, 120,000 records": ("ruby", "ruby"),
    "node, 40,000 buffers": ("node", "node"),
    "sqlite3, 60,000 rows in memory": ("sqlite3", "sqlite3"),
    "redis, 100,000 keys of mixed sizes": ("redis-cli", "redis"),
    "gcc, peak": ("gcc", "gcc"),
    "g++, peak": ("g++", "gxx"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    benchlib.add_arguments(parser, runs=3)
    parser.set_defaults(base="glibc")
    options = parser.parse_args()
    try:
        allocators = benchlib.prepare(options)
        cases = {case: method for case, (program, method) in CASES.items()
                 if benchlib.selected(case, options.only) and shutil.which(program)}
        with tempfile.TemporaryDirectory(prefix="density.") as folder:
            programs = Programs(options, pathlib.Path(folder))
            results = benchlib.interleave(list(cases), allocators, options.runs,
                                          lambda case, allocator: getattr(programs, cases[case])(allocator))
    except (BenchError, OSError) as error:
        sys.exit(f"density.py: {error}")
    names = [a.name for a in allocators]
    table = benchlib.ratio_table(results, list(cases), names, options.base, "rss", "MiB", digits=1)
    head = f"## resident memory, nothing reclaimed: {options.runs} repetitions\n\n{benchlib.host()}"
    benchlib.finish(options, f"{head}\n\n{table}", results)


if __name__ == "__main__":
    main()
