#!/usr/bin/env python3
"""What a node process that waits for events gives back when its limit is lowered.

    bench/node_idle.py                  the table, in Markdown
    bench/node_idle.py --runs 1 --only rows

The program (tests/containers/node_waits.js) has dropped what it built, and waits. Then `limit=100MiB` is written to its
socket. A row gives resident memory before and after, how long it took until it fell no more, and the CPU time of the process
meanwhile: medians of the runs. Beside it the same program without memlimit, looked at for --patience seconds.
"""

import argparse
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from benchlib import REPOSITORY, clean_environment, markdown, selected, warn

PROGRAM = REPOSITORY / "tests" / "containers" / "node_waits.js"
ROWS = (
    ("rows in the old space", ["rows", "1500000", "0"]),
    ("buffers in the old space, 300,000 of 1 kB", ["buffers", "300000", "0"]),
    ("rows of four workers that wait, too", ["rows", "250000", "4"]),
)
TICKS = os.sysconf("SC_CLK_TCK")
LIMIT = b"limit=100MiB\n"
STILL_S = 3  # so long without a fall of a MiB, and it is over


def resident_mib(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def lower_limit(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(LIMIT)
        client.shutdown(socket.SHUT_WR)
        client.recv(4096)


def fall(pid, patience_s):
    """(MiB in the end, seconds until then, CPU seconds until then)"""
    began, cpu_before = time.monotonic(), cpu_seconds(pid)
    least, fell_at, cpu = resident_mib(pid), began, 0.0
    while time.monotonic() < max(began + patience_s, fell_at + STILL_S):
        now = resident_mib(pid)
        if now < least - 1:
            least, fell_at, cpu = now, time.monotonic(), cpu_seconds(pid) - cpu_before
        time.sleep(0.02)
    return least, fell_at - began, cpu


def run(arguments, library, patience_s):
    """(MiB before, MiB after, seconds, CPU seconds); without a library nothing is asked of it."""
    with tempfile.TemporaryDirectory() as directory:
        path = directory + "/socket"
        ours = {"LD_PRELOAD": str(library), "MEMLIMIT": "4GiB", "MEMLIMIT_SOCKET": path} if library else {}
        with subprocess.Popen(
            ["node", PROGRAM, *arguments], env={**clean_environment(), **ours}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ) as process:
            assert process.stdout.readline() == "waits\n"
            before = resident_mib(process.pid)
            if library:
                lower_limit(path)
            found = fall(process.pid, patience_s)
            process.communicate("end\n")
    return before, *found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=REPOSITORY / "build")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--patience", type=float, default=10, help="seconds to look at each (default 10)")
    parser.add_argument("--only", help="comma-separated rows; a name selects by its start")
    options = parser.parse_args()
    library = (options.build / "preload" / "libmemlimit.so").resolve()
    rows = []
    for name, arguments in ROWS:
        if not selected(name, options.only):
            continue
        runs = [run(arguments, library, options.patience) for _ in range(options.runs)]
        before, after, seconds, cpu = (statistics.median(column) for column in zip(*runs))
        left_alone = run(arguments, None, options.patience)[1]
        rows.append([name, f"{before:.0f} MiB", f"{after:.0f} MiB", f"{seconds:.1f} s", f"{cpu:.1f} s",
                     f"{left_alone:.0f} MiB"])
        warn(" | ".join(rows[-1]))
    print(markdown(["what the program dropped, and then it waited", "before", "after", "took", "of it CPU time",
                    "left alone"], rows))
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
