#!/usr/bin/env python3
"""Real programs side by side, unmodified: Python, SQLite, gcc, g++, Node, Redis under load.

    bench/real.py                  user time, wall time and peak RSS, ratios to `forward`
    bench/real.py --limit 64MiB    one more column: memlimit with that limit
    bench/real.py --only redis     one of them; a program that is not installed is left out

Each program's output must be the same under every allocator. Redis is a server of its own on a Unix
socket in a temporary directory, loaded by redis-benchmark (which runs without any preload); its
time is the server's. Nothing is left running.
"""

import argparse
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import benchlib
import run as suite
from benchlib import Allocator, BenchError, Run

REAL = pathlib.Path(__file__).resolve().parent / "real"


def write_c_source(path, functions):
    """A C file with many functions of different shapes: a second's work for a compiler."""
    lines = ["#include <stdio.h>", "#include <string.h>",
             "struct node { int v; struct node *l, *r; };"]
    for i in range(functions):
        lines.append(f"""
static int table{i}[{i % 13 + 3}] = {{{", ".join(str(i * j % 101) for j in range(i % 13 + 3))}}};
int walk{i}(struct node *n, int depth) {{
  int sum = {i};
  while (n && depth-- > 0) {{
    switch ((n->v ^ {i * 2654435761 % 1000003}) % 7) {{
      case 0: sum += table{i}[n->v % {i % 13 + 3}]; n = n->l; break;
      case 1: case 2: sum ^= n->v << {i % 5}; n = n->r; break;
      case 3: for (int k = 0; k < {i % 29 + 2}; k++) sum = sum * 33 + k; /* fall through */
      default: n = (sum & 1) ? n->l : n->r;
    }}
  }}
  char text[{64 + i % 64}];
  snprintf(text, sizeof text, "%d/%d", sum, {i});
  return (int)strlen(text) + sum{f" + walk{i - 1}(n, depth)" if i else ""};
}}""")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Programs:
    """The cases: each method runs one program once under an allocator and returns a Run."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.scale = 1 if options.quick else 4
        self.c_source = folder / "generated.c"
        write_c_source(self.c_source, 100 * self.scale)

    def measured(self, argv, allocator, **keywords):
        return benchlib.measure(self.options.build, argv, allocator, **keywords)[0]

    def python3(self, allocator, *settings):
        # The system's: a version manager's `python3` is a shell script that starts the real one.
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        allocator = Allocator(allocator.name, allocator.preload, allocator.settings + settings)
        done = self.measured([python, "-S", REAL / "work.py", self.scale], allocator)
        done.output, _, resident = done.output.rpartition("resident_kib=")
        done.extra["resident_mib"] = int(resident) / 1024
        return done

    def python3_malloc(self, allocator):
        return self.python3(allocator, "PYTHONMALLOC=malloc")

    def sqlite3(self, allocator):
        with open(REAL / "speed.sql", encoding="utf-8") as script:
            return self.measured(["sqlite3", "-batch", ":memory:"], allocator, stdin=script)

    def compiled(self, argv, allocator):
        target = self.folder / "out.o"
        done = self.measured([*argv, "-o", target], allocator)
        done.output = hashlib.sha256(target.read_bytes()).hexdigest()
        return done

    def gcc(self, allocator):
        return self.compiled(["gcc", "-O1", "-c", self.c_source], allocator)

    def gxx(self, allocator):
        return self.compiled(["g++", "-std=c++17", "-O1", "-c", REAL / "templates.cc"], allocator)

    def node(self, allocator):
        return self.measured(["node", REAL / "work.js", self.scale], allocator)

    def redis(self, allocator):
        if allocator.name == "glibc":
            # Debian's redis-server is linked with jemalloc; the C library in front of it wins.
            allocator = Allocator("glibc", benchlib.library_path(["libc.so.6"]))
        with RedisServer(self.options, self.folder, allocator) as server:
            requests = str(20_000 * self.scale)
            load = subprocess.run(
                ["redis-benchmark", "-s", str(server.path), "-n", requests, "-r", "100000",
                 "-c", "20", "-P", "16", "-d", "400", "--csv",
                 "-t", "set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100"],
                capture_output=True, text=True, env=benchlib.clean_environment(), check=False)
            if load.returncode != 0:
                raise BenchError(f"redis-benchmark: {load.stderr[-500:]}")
            rates = [float(rate) for rate in re.findall(r'^"[^"]+","([\d.]+)"', load.stdout, re.M)]
            resident = server.resident_mib()
        done = server.run
        done.extra["resident_mib"] = resident
        done.extra["requests_per_s"] = benchlib.geometric_mean(rates)
        # The server also waits for its client: what counts is the time a million requests take.
        done.wall = 1e6 / done.extra["requests_per_s"]
        return done


class RedisServer:
    """A server of our own: started under `measure`, ended by SHUTDOWN, or killed with it."""

    def __init__(self, options, folder, allocator):
        self.path = folder / f"redis-{allocator.name.replace(' ', '-')}.sock"
        self.path.unlink(missing_ok=True)
        self.out = tempfile.TemporaryFile(mode="w+")
        command = [str(options.build / "bench" / "measure"), "-o", str(self.out.fileno())]
        if allocator.preload:
            command += ["-e", f"LD_PRELOAD={allocator.preload}"]
        for setting in allocator.settings:
            command += ["-e", setting]
        command += ["--", "redis-server", "--port", "0", "--unixsocket", str(self.path),
                    "--save", "", "--appendonly", "no", "--dir", str(folder), "--daemonize", "no"]
        self.process = subprocess.Popen(command, pass_fds=[self.out.fileno()], cwd=folder,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, env=benchlib.clean_environment())
        self.run = None

    def __enter__(self):
        try:
            deadline = time.monotonic() + 20
            while self.process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    if self.ask("PING").startswith(b"+PONG"):
                        return self
                time.sleep(0.02)
            raise BenchError("redis-server did not come up")
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, value, trace):
        if kind is None:
            with contextlib.suppress(OSError):
                self.ask("SHUTDOWN NOSAVE")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        if self.process.poll() is None:
            self.process.kill()  # `measure` has asked the kernel to end its child with it
        errors = self.process.communicate()[1].decode(errors="replace")
        with self.out:
            self.out.seek(0)
            text = self.out.read()
        if kind is None:
            if self.process.returncode != 0 or not text:
                raise BenchError(f"redis-server: {self.process.returncode}: {errors[-500:]}")
            self.run = benchlib.parse_runs(text)[0]

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(self.path))
            client.sendall(command.encode() + b"\r\n")
            return client.recv(1 << 16)

    def resident_mib(self):
        pid = int(re.search(rb"process_id:(\d+)", self.ask("INFO server")).group(1))
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


CASES = {
    # case -> (program that must be there, method of Programs)
    "python3": ("python3", "python3"),
    "python3, PYTHONMALLOC=malloc": ("python3", "python3_malloc"),
    "sqlite3": ("sqlite3", "sqlite3"),
    "gcc": ("gcc", "gcc"),
    "g++": ("g++", "gxx"),
    "node": ("node", "node"),
    "redis": ("redis-benchmark", "redis"),
}


def settled(results, names):
    """What the two long-lived programs still hold when their work is done."""
    rows = []
    for case in results:
        if all("resident_mib" in results[case][n][0].extra for n in names):
            rows.append([case, *(
                f"{statistics.median(r.extra['resident_mib'] for r in results[case][n]):.1f}"
                for n in names)])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    benchlib.add_arguments(parser, runs=7)
    parser.add_argument("--limit", help="also run memlimit with this MEMLIMIT")
    options = parser.parse_args()
    try:
        allocators = benchlib.prepare(options)
        ours = [a for a in allocators if a.name == "memlimit"]
        if options.limit and ours:
            allocators.append(Allocator(f"memlimit {options.limit}", ours[0].preload,
                                        (f"MEMLIMIT={options.limit}", "MEMLIMIT_LOG=off")))
        cases = {case: method for case, (program, method) in CASES.items()
                 if benchlib.selected(case, options.only) and shutil.which(program)}
        with tempfile.TemporaryDirectory(prefix="real.") as folder:
            programs = Programs(options, pathlib.Path(folder))
            results = benchlib.interleave(
                list(cases), allocators, options.runs,
                lambda case, allocator: getattr(programs, cases[case])(allocator))
    except (BenchError, OSError) as error:
        sys.exit(f"real.py: {error}")
    names = [a.name for a in allocators]
    parts = suite.tables(options, allocators, results, (
        ("User time", "user", "s", 1, 2), ("User + system time", "cpu", "s", 1, 2),
        ("Wall time (redis: seconds for a million requests)", "wall", "s", 1, 2),
        ("Peak RSS", "rss", "MiB", 1, 1)))
    rows = settled(results, names)
    if rows:
        parts.append("### Resident MiB when the work is done\n\n"
                     + benchlib.markdown(["", *names], rows))
    plot = suite.bars_plot(options, allocators, results, "user", "User time, real programs")
    head = f"## real programs: {options.runs} repetitions\n\n{benchlib.host()}"
    benchlib.finish(options, "\n\n".join([head, *parts]), results, plot)


if __name__ == "__main__":
    main()
