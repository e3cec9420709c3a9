#!/usr/bin/env python3
"""Real programs in a container that is too small for them: which allocator brings them through.

    bench/survival.py                     the table, in Markdown
    bench/survival.py --only redis perl   some rows
    bench/survival.py --allocators glibc memlimit --repeat 3

Every row is a program with work that needs more memory than its group allows unless something is given
back. Each runs in a cgroup v1 memory group of its own, without swap, under each allocator; memlimit with
MEMLIMIT=85%. A cell says how it ended (killed by the kernel, or how long it took), and the group's peak. The
columns `free` are the same program in a group without a limit, under glibc and under memlimit without a limit.
`by hand` is the best that one can do with the program's own settings under glibc in the same group, with no higher
peak than under memlimit: what giving back so much costs, whoever does it. Needs root. A program that
is not installed is left out, and the footer says so.
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import benchlib

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = HERE / "survival"
CONTAINERS = HERE.parent / "tests" / "containers"
MIB = 1 << 20
PATIENCE_S = 600
LIMIT_PERCENT = 85
Result = collections.namedtuple("Result", "ended seconds peak")


class Redis:
    """A client that speaks just enough of the protocol, pipelined. It runs outside of the group."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        for _ in range(1000):
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                time.sleep(0.02)
        self.socket.settimeout(PATIENCE_S)

    def batch(self, commands):
        packed = bytearray()
        for words in commands:
            packed += b"*%d\r\n" % len(words)
            for word in words:
                packed += b"$%d\r\n%s\r\n" % (len(word), word)
        self.socket.sendall(packed)
        left = len(commands)
        while left > 0:
            chunk = self.socket.recv(1 << 20)
            if not chunk:
                raise ConnectionError("the server is gone")
            left -= chunk.count(b"\n")

    def many(self, commands, size=500):
        commands = list(commands)
        for at in range(0, len(commands), size):
            self.batch(commands[at:at + size])


def drive_redis(process, directory):
    """Fills, deletes four of five keys (all but every fifth), fills again with values of another size."""
    client = Redis(directory / "redis.sock")
    rng = random.Random(1)
    first = 110_000
    client.many([b"SET", b"first:%d" % i, b"a" * rng.randrange(700, 1300)] for i in range(first))
    client.many([b"DEL", b"first:%d" % i] for i in range(first) if i % 5)
    client.many([b"SET", b"second:%d" % i, b"b" * rng.randrange(2000, 3000)] for i in range(42_000))
    client.socket.sendall(b"*2\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n")
    process.wait(PATIENCE_S)


# by_hand: {setting: command}
Row = collections.namedtuple("Row", "name needs limit_mib command drive by_hand", defaults=(None, {}))


def sqlite_by_hand(script):
    return {f"cache of {mb} MB": ["sh", "-c", f"sed s/-1000000/-{mb}000/ {script} | sqlite3 FILE"] for mb in (100, 150, 190)}


def rows(build):
    bench = build / "bench"
    script = lambda name: str(PROGRAMS / name)
    return [
        Row("python: cycles, high thresholds", "python3", 256, ["python3", script("cycles.py")]),
        Row("python: buffers in cycles, collector as it comes", "python3", 256,
            ["python3", str(CONTAINERS / "cycles_collected.py")]),
        Row("python: churn beside a graph", "python3", 256, ["python3", script("churn.py"), "roomy"]),
        Row("python: the same, the graph fills the limit", "python3", 256, ["python3", script("churn.py"), "tight"],
            by_hand={f"gc.collect() each {steps}": ["python3", script("churn.py"), "tight", str(steps)]
                     for steps in (12_000, 16_000, 20_000)}),
        Row("node: heap larger than the group", "node", 256,
            ["node", "--max-old-space-size=2048", script("garbage.js")]),
        Row("ruby: collector turned off", "ruby", 256, ["ruby", script("deferred.rb")]),
        Row("ruby: waves of old objects, collector as it comes", "ruby", 256,
            ["ruby", str(CONTAINERS / "old_objects.rb"), "waves", "340000"]),
        Row("sqlite: page cache of 1 GB", "sqlite3", 256, ["sqlite3", "FILE", f".read {script('hot_pages.sql')}"],
            by_hand=sqlite_by_hand(script("hot_pages.sql"))),
        Row("sqlite: the same, reads scattered", "sqlite3", 256, ["sqlite3", "FILE", f".read {script('pages.sql')}"],
            by_hand=sqlite_by_hand(script("pages.sql"))),
        Row("redis: fill, delete 4 of 5, refill", "redis-server", 256,
            ["redis-server", "--port", "0", "--unixsocket", "DIR/redis.sock", "--save", "", "--appendonly",
             "no", "--dir", "DIR", "--daemonize", "no", "--logfile", "DIR/redis.log"], drive_redis),
        Row("C++ server, cache with a hook", bench / "bench_cache_server", 256,
            [str(bench / "bench_cache_server"), "1", "4", "600000", "zipf"]),
        Row("C++ server: the same, requests scattered", bench / "bench_cache_server", 256,
            [str(bench / "bench_cache_server"), "1", "4", "600000", "scattered"],
            by_hand={f"cache of {mib} MiB": [str(bench / "bench_cache_server"), "1", "4", "600000", "scattered", str(mib)]
                     for mib in (150, 170, 190)}),
        Row("prefork: 4 workers, cache with a hook", bench / "bench_cache_server", 384,
            [str(bench / "bench_cache_server"), "4", "1", "250000", "zipf"]),
        Row("32 threads that hoard what they freed", bench / "bench_hoard", 256,
            [str(bench / "bench_hoard"), "32", "24"]),
        Row("perl: phases of other shapes", "perl", 256, ["perl", script("phases.pl")]),
    ]


def environments(build, names):
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    found = {}
    for name in names:
        if name == "memlimit":
            found[name] = {"LD_PRELOAD": str(build / "preload" / "libmemlimit.so"), "MEMLIMIT": f"{LIMIT_PERCENT}%",
                           "MEMLIMIT_SOCKET": "off"}
        elif name == "glibc":
            # Named, for programs that are linked with another allocator (redis-server with jemalloc).
            found[name] = {"LD_PRELOAD": "libc.so.6"}
        else:
            found[name] = {"LD_PRELOAD": benchlib.SONAMES[name][0]}
    return {name: {**base, **extra} for name, extra in found.items()}


def run_once(row, environment, limit_bytes, command=None):
    with tempfile.TemporaryDirectory(prefix="memlimit-survival-") as name, benchlib.MemoryGroup(limit_bytes) as group:
        directory = pathlib.Path(name)
        words = [w.replace("DIR", name).replace("FILE", f"{name}/file.db") for w in command or row.command]
        with open(directory / "output", "w+", encoding="utf-8") as output:
            began = time.monotonic()
            process = subprocess.Popen(group.command(words, environment), stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=output, env={})
            try:
                if row.drive:
                    row.drive(process, directory)
                process.wait(PATIENCE_S)
            except (ConnectionError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()
            seconds = time.monotonic() - began
            output.seek(0)
            text = output.read()
        if group.kills() > 0:
            ended = "killed"
        elif process.returncode == 0 and (row.drive or "done" in text):
            ended = "finished"
        else:
            ended = f"failed ({process.returncode})"
            print(f"{row.name}: {text[-400:]}", file=sys.stderr)
        return Result(ended, seconds, group.peak())


def by_hand(row, environment, most_bytes):
    """The fastest of the settings that take no more memory than that."""
    best = None
    for setting, command in row.by_hand.items():
        result = run_once(row, environment, row.limit_mib * MIB, command)
        fits = result.ended == "finished" and result.peak <= most_bytes
        if fits and (best is None or result.seconds < best[1].seconds):
            best = setting, result
    if best is None:
        return "none" if row.by_hand else ""
    return f"{cell([best[1]])} ({best[0]})"


def cell(results):
    """Of several runs the worst end, the median time and the highest peak."""
    ends = {result.ended for result in results}
    bad = [end for end in ends if end != "finished"]
    seconds = sorted(result.seconds for result in results)[len(results) // 2]
    peak = max(result.peak for result in results) // MIB
    if bad:
        count = sum(result.ended != "finished" for result in results)
        return f"**{bad[0]}**" + (f" {count} of {len(results)}" if len(results) > 1 else "")
    return f"{seconds:.1f} s, {peak} MiB"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--only", nargs="*", default=[], help="parts of rows' names")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--allocators", nargs="*",
                        default=["glibc", "jemalloc", "tcmalloc", "mimalloc", "memlimit"])
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    if not benchlib.MemoryGroup.can_be_made():
        sys.exit("survival.py: needs root and a cgroup v1 memory hierarchy")
    under = environments(build, arguments.allocators)
    unlimited = environments(build, ["glibc", "memlimit"])
    unlimited["memlimit"]["MEMLIMIT"] = "off"
    missing = []
    print("| program | group | free, glibc | free, memlimit | " + " | ".join(under) + " | by hand |")
    print("|---|---|---|---|" + "---|" * len(under) + "---|", flush=True)
    for row in rows(build):
        if arguments.only and not any(part in row.name for part in arguments.only):
            continue
        if shutil.which(str(row.needs), path="/usr/local/bin:/usr/bin:/bin") is None:
            missing.append(row.name)
            continue
        cells = [cell([run_once(row, environment, 0) for _ in range(arguments.repeat)])
                 for environment in unlimited.values()]
        most_bytes = row.limit_mib * MIB
        for name, environment in under.items():
            results = [run_once(row, environment, row.limit_mib * MIB) for _ in range(arguments.repeat)]
            cells.append(cell(results))
            if name == "memlimit":
                most_bytes = max(result.peak for result in results)
        cells.append(by_hand(row, unlimited["glibc"], most_bytes))
        print(f"| {row.name} | {row.limit_mib} MiB | " + " | ".join(cells) + " |", flush=True)
    for name in missing:
        print(f"\nLeft out: {name} (not installed or not built).")


if __name__ == "__main__":
    main()
