#!/usr/bin/env python3
"""What processes that do nothing cost together in one container, below and above its limit.

    bench/idle.py                              the table, in Markdown
    bench/idle.py --processes 20 --settle 0 --seconds 30

Many python3 processes that hold some megabytes and sleep run under MEMLIMIT=80% in one cgroup v1 memory group of their
own. When all of them are up, the group is resized so that it is full to so many percent of its memory, and they are left
alone. A row gives how often each process's `memlimit` thread woke up (voluntary context switches) a second, first
right after that and then when they have settled; what these threads took of a core together; and how many lines they
wrote on standard error. Needs root.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
HIERARCHY = pathlib.Path("/sys/fs/cgroup/memory")
PATIENCE_S = 300
FULL_PERCENT = {"below the limit": 30, "above the limit": 90}
IDLE = """
import time
held = [bytes(65536) for _ in range(128)]
print('up', flush=True)
while True:
    time.sleep(1000000)
"""


class Group:
    """A memory group, gone when the with-block ends, with what runs in it."""

    def __init__(self):
        self.path = HIERARCHY / f"memlimit-idle-{os.getpid()}"
        self.processes = []

    def __enter__(self):
        self.path.mkdir()
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.05)

    def start(self, library, errors):
        """One process of it; it writes a line when it is up."""
        script = f'echo $$ >{self.path}/cgroup.procs || exit 99; exec env -i "$@"'
        settings = (f"LD_PRELOAD={library}", "MEMLIMIT=80%", "MEMLIMIT_SOCKET=off", "PATH=/usr/bin:/bin")
        self.processes.append(
            subprocess.Popen(["/bin/sh", "-c", script, "sh", *settings, "/usr/bin/python3", "-I", "-c", IDLE],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors))

    def fill_to(self, percent):
        """Resizes it to what it holds now."""
        held = int((self.path / "memory.usage_in_bytes").read_text())
        (self.path / "memory.limit_in_bytes").write_text(str(held * 100 // percent))


def service_threads(processes):
    """Folders in /proc of the library's threads."""
    threads = []
    for process in processes:
        for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
            if (task / "comm").read_text() == "memlimit\n":
                threads.append(task)
    return threads


def reading(threads):
    """(voluntary switches, nanoseconds on a processor) of all of them."""
    switches = nanoseconds = 0
    for thread in threads:
        for line in (thread / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                switches += int(line.split()[1])
        nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return switches, nanoseconds


def watch(threads, seconds):
    """(wake-ups a second of each, percent of a core of all)."""
    began, before = time.monotonic(), reading(threads)
    time.sleep(seconds)
    took, after = time.monotonic() - began, reading(threads)
    each = (after[0] - before[0]) / took / len(threads)
    return each, (after[1] - before[1]) / took / 1e7


def run(library, count, percent, settle, seconds):
    """A row's cells."""
    with tempfile.TemporaryFile() as errors, Group() as group:
        for _ in range(count):
            group.start(library, errors)
        for process in group.processes:
            process.stdout.readline()
        time.sleep(2)  # the thread comes with a look
        threads = service_threads(group.processes)
        if len(threads) < count:
            print(f"only {len(threads)} of {count} have the thread", file=sys.stderr)
        group.fill_to(percent)
        first = watch(threads, seconds)
        if settle > 0:
            time.sleep(settle)
        settled = watch(threads, seconds)
        errors.seek(0)
        lines = errors.read().decode().splitlines()
    for line in lines[:2]:
        print(line, file=sys.stderr)
    return [f"{first[0]:.3f}", f"{first[1]:.2f} %", f"{settled[0]:.3f}", f"{settled[1]:.3f} %", str(len(lines))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, default=HERE.parent / "build/preload/libmemlimit.so")
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--settle", type=int, default=180, help="seconds between the two readings")
    parser.add_argument("--seconds", type=int, default=120, help="that each reading takes: the longest interval, or not every process is seen")
    arguments = parser.parse_args()
    print(f"| {arguments.processes} idle processes | wake-ups a second each, at first | of a core, all "
          "| settled | of a core, all | lines |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, percent in FULL_PERCENT.items():
        cells = run(arguments.library.resolve(), arguments.processes, percent, arguments.settle, arguments.seconds)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
