#!/usr/bin/env python3
"""What adapters cost where memory is plentiful: programs with a limit that they never come near.

    bench/adapter_overhead.py                  the table, in Markdown
    bench/adapter_overhead.py --pairs 9 --only python

Each program runs in pairs, with MEMLIMIT_ADAPTERS=auto and with none, in alternating order, at
MEMLIMIT=64GiB. A row gives the quotient of the least CPU times (user and system, of the program and its
children) and the medians of the pairs' quotients of CPU and wall times. The bar is 1.02 for the median of CPU
times: programs of half a second vary by tens of percent here, so it takes some thirty pairs. Run it on a machine
that does nothing else.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = HERE.parent / "tests" / "containers"
PATH = "/usr/local/bin:/usr/bin:/bin"
ROWS = (
    ("python: 1 MB buffers in cycles", ["/usr/bin/python3", "cycles_collected.py"]),
    ("python: large cycles, no collector", ["/usr/bin/python3", "cycles_uncollected.py", "large", "60000"]),
    ("python: small cycles, no collector", ["/usr/bin/python3", "cycles_uncollected.py", "small", "800000"]),
    ("ruby: waves of old objects", ["ruby", "old_objects.rb", "waves", "60000"]),
    ("ruby: collector disabled", ["ruby", "old_objects.rb", "disabled", "300000"]),
    ("php: queue worker", ["php", "queue_worker.php", "8000"]),
    ("node: waves", ["node", "waves.js", "5", "150000"]),
    ("perl: a cache", ["perl", "signal_cache.pl"]),
)


def run(command, build, adapters):
    """(CPU seconds, wall seconds)"""
    environment = {
        "PATH": PATH,
        "LD_PRELOAD": str(build / "preload" / "libmemlimit.so"),
        "MEMLIMIT": "64GiB",
        "MEMLIMIT_SOCKET": "off",
        "MEMLIMIT_ADAPTERS": adapters,
    }
    before, began = os.times(), time.monotonic()
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.monotonic() - began, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, wall


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--only", nargs="*", default=[], help="parts of rows' names")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    print("| program | least CPU time | CPU time | wall time | seconds |")
    print("|---|---|---|---|---|", flush=True)
    worst = worst_least = 0.0
    for name, words in ROWS:
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        if shutil.which(words[0], path=PATH) is None:
            print(f"left out: {name}: no {words[0]}", file=sys.stderr)
            continue
        command = [words[0], str(PROGRAMS / words[1]), *words[2:]]
        run(command, build, "auto")  # brings the files into memory
        quotients, least = [], {"auto": float("inf"), "none": float("inf")}
        for pair in range(arguments.pairs):
            order = ("auto", "none") if pair % 2 == 0 else ("none", "auto")
            figures = {adapters: run(command, build, adapters) for adapters in order}
            quotients.append([with_/without for with_, without in zip(figures["auto"], figures["none"])])
            wall = figures["auto"][1]
            least = {adapters: min(least[adapters], figures[adapters][0]) for adapters in order}
        cpu_quotient, wall_quotient = (statistics.median(column) for column in zip(*quotients))
        least_quotient = least["auto"] / least["none"]
        worst, worst_least = max(worst, cpu_quotient), max(worst_least, least_quotient)
        print(f"| {name} | {least_quotient:.3f} | {cpu_quotient:.3f} | {wall_quotient:.3f} | {wall:.2f} |", flush=True)
    print(f"\nworst: {worst:.3f} of CPU time by the medians of pairs, {worst_least:.3f} by the least runs")


if __name__ == "__main__":
    main()
