#!/usr/bin/env python3
"""What attached runtimes cost where memory is plentiful: programs with a limit that they never come near.

    bench/adapter_overhead.py                  all tables, in Markdown (half an hour)
    bench/adapter_overhead.py --runs 5 --only python3,php

Busy: the programs of runtime_tax.py in pairs, with the runtimes attached and with MEMLIMIT_ADAPTERS=none, in an
order that changes, at a limit of 16 GiB. A cell is the median of the pairs' quotients of CPU time (user and system)
with its quartiles, then the share of a core that the library's own thread used with the runtimes attached: that thread
does the looking. The bars are 1.01 and 0.1 %.

Instructions: runtimes that callgrind can run, with smaller tables and with addresses and hash seeds as in the run
before; of the program's threads, not of the library's. Repeatable to some 0.001 %, where times are not.

At rest: the same runtimes wait for a minute with the library; the share of a core that the library's thread used from
the second second on, and how often the program was woken up in that time for each second, all its threads, by that
without the library.

A run of a few seconds varies by percents on a machine that does anything else.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from benchlib import REPOSITORY, BenchError, Ratio, clean_environment, markdown, selected, warn
from runtime_tax import NAMED, ROWS, TAX

LIMIT = "16GiB"
THREAD = "memlimit"
COUNTED = (
    ("python3", ["python3", TAX / "table.py", "6000", "20"]),
    ("php", ["php", TAX / "table.php", "10000", "10"]),
    ("ruby", ["ruby", TAX / "table.rb", "6000", "20"]),
)
WAITING = (
    ("python3", ["python3", "-c", "import time; time.sleep(1000)"]),
    ("node", ["node", "-e", "setTimeout(() => {}, 1e6)"]),
    ("ruby", ["ruby", "-e", "sleep 1000"]),
    ("php", ["php", "-r", "sleep(1000);"]),
    ("java, G1", ["java", "-XX:+UseG1GC", "Waits"]),
    ("java, ZGC", ["java", "-XX:+UseZGC", "Waits"]),
    ("erlang, named", ["erl", "-noshell", "-eval", "timer:sleep(1000000)"]),
)
WAITS_JAVA = "class Waits { public static void main(String[] words) throws Exception { Thread.sleep(1000000); } }\n"


def settings(name, library, attached):
    chosen = NAMED.get(name, "auto") if attached else "none"
    return {"LD_PRELOAD": str(library), "MEMLIMIT": LIMIT, "MEMLIMIT_ADAPTERS": chosen}


def threads(pid):
    """The directories in /proc of its threads; none when it is gone."""
    try:
        return list(pathlib.Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def own_thread_ns(pid):
    """Nanoseconds on a processor of the library's thread, of the program and what it started, or None."""
    used = None
    for thread in threads(pid):
        try:
            if (thread / "comm").read_text().strip() == THREAD:
                used = (used or 0) + int((thread / "schedstat").read_text().split()[0])
            for child in (thread / "children").read_text().split():
                below = own_thread_ns(child)
                used = used if below is None else (used or 0) + below
        except OSError:
            continue
    return used


def switches(pid):
    """How often its threads and those of what it started gave a processor up."""
    count = 0
    for thread in threads(pid):
        try:
            for line in (thread / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    count += int(line.split()[1])
            count += sum(switches(child) for child in (thread / "children").read_text().split())
        except OSError:
            continue
    return count


def start(command, extra, directory):
    return subprocess.Popen(
        [str(word) for word in command], env={**clean_environment(), **extra}, cwd=directory,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )


def busy_run(command, extra, directory):
    """(CPU seconds, share of a core of the library's thread, at most a fifth of a second before the end)"""
    began = time.monotonic()
    child = start(command, extra, directory)
    share = 0.0
    while True:
        pid, status, used = os.wait4(child.pid, os.WNOHANG)
        if pid != 0:
            break
        own = own_thread_ns(child.pid)
        if own is not None:
            share = own / 1e9 / (time.monotonic() - began)
        time.sleep(0.2)
    child.returncode = os.waitstatus_to_exitcode(status)
    if status != 0:
        raise BenchError(f"{command[0]} ended with {child.returncode}")
    return used.ru_utime + used.ru_stime, share


def busy_row(name, command, library, runs, directory):
    shuffle = random.Random(1)
    quotients, shares, seconds = [], [], []
    busy_run(command, settings(name, library, True), directory)  # brings the files into memory
    for _ in range(runs):
        order = [True, False]
        shuffle.shuffle(order)
        figures = {attached: busy_run(command, settings(name, library, attached), directory) for attached in order}
        quotients.append(figures[True][0] / figures[False][0])
        seconds.append(figures[False][0])
        shares.append(figures[True][1])
    low, middle, high = statistics.quantiles(quotients, n=4, method="inclusive")
    return [name, f"{statistics.median(seconds):.1f}", Ratio(middle, low, high), f"{100 * statistics.median(shares):.3f} %"]


def instructions(command, extra):
    """Of the first thread."""
    with tempfile.TemporaryDirectory() as directory:
        valgrind = ["setarch", "-R", "valgrind", "--tool=callgrind", "--separate-threads=yes",
                    f"--callgrind-out-file={directory}/out", f"--log-file={directory}/log"]
        done = subprocess.run(
            [*valgrind, *map(str, command)], env={**clean_environment(), **extra, "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
        )
        if done.returncode != 0:
            raise BenchError(f"callgrind {command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
        found = re.search(r"^(?:summary|totals): (\d+)", pathlib.Path(f"{directory}/out-01").read_text(), re.MULTILINE)
    return int(found.group(1))


def counted_row(name, command, library):
    attached, plain = (instructions(command, settings(name, library, attached)) for attached in (True, False))
    return [name, f"{plain / 1e6:.1f}", f"{attached / plain:.5f}"]


def waiting_run(command, extra, directory, seconds):
    """(share of a core of the library's thread, switches a second)"""
    child = start(command, extra, directory)
    try:
        time.sleep(2)
        before = own_thread_ns(child.pid) or 0, switches(child.pid)
        time.sleep(seconds)
        if child.poll() is not None:
            raise BenchError(f"{command[0]} ended with {child.returncode}")
        after = own_thread_ns(child.pid) or 0, switches(child.pid)
    finally:
        child.kill()
        child.wait()
    return (after[0] - before[0]) / 1e9 / seconds, (after[1] - before[1]) / seconds


def waiting_row(name, command, library, seconds, directory):
    share, woken = waiting_run(command, settings(name, library, True), directory, seconds)
    _, woken_without = waiting_run(command, {}, directory, seconds)
    return [name, f"{100 * share:.4f} %", f"{woken:.2f}", f"{woken_without:.2f}"]


def table(rows, only, make_row):
    made = []
    for name, command in rows:
        if not selected(name, only):
            continue
        if shutil.which(command[0]) is None or (command[0] == "java" and shutil.which("javac") is None):
            warn(f"{name}: not here, left out")
            continue
        try:
            made.append(make_row(name, command))
        except BenchError as error:
            warn(f"{name}: {error}")
            continue
        warn(" | ".join(map(str, made[-1])))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=REPOSITORY / "build")
    parser.add_argument("--runs", type=int, default=9, help="pairs of each busy program (default: 9)")
    parser.add_argument("--wait", type=int, default=60, help="seconds that a program waits (default: 60)")
    parser.add_argument("--only", help="comma-separated rows; a name selects by its start")
    options = parser.parse_args()
    library = (options.build / "preload" / "libmemlimit.so").resolve()
    with tempfile.TemporaryDirectory() as directory:
        if shutil.which("javac"):
            waits = pathlib.Path(directory) / "Waits.java"
            waits.write_text(WAITS_JAVA)
            subprocess.run(["javac", "-d", directory, str(TAX / "Table.java"), str(waits)], check=True)
        busy = table(ROWS, options.only, lambda name, command: busy_row(name, command, library, options.runs, directory))
        counted = table(COUNTED, options.only, lambda name, command: counted_row(name, command, library))
        waiting = table(
            WAITING, options.only, lambda name, command: waiting_row(name, command, library, options.wait, directory)
        )
    print(markdown(["busy", "CPU s", "attached / none", "library's thread"], busy), end="\n\n")
    print(markdown(["instructions", "millions", "attached / none"], counted), end="\n\n")
    print(markdown(["at rest", "library's thread", "switches a second", "without"], waiting))
    return 0 if busy or waiting else 1


if __name__ == "__main__":
    sys.exit(main())
