#!/usr/bin/env python3
"""What a runtime pays for a limit that is near, or below, what it must keep.

    bench/runtime_tax.py                 the table, in Markdown
    bench/runtime_tax.py --runs 5 --only python3,node

Each program (tax/) holds a table of objects and replaces them one by one when they are old: all its garbage needs the
runtime's collector. It says what it holds once the table is there and garbage is collected; the limits are that, times a
factor. A cell is the CPU time (user and system) at that limit by the time without the library, the median of the runs'
quotients and the worst, then the peak of resident memory in MiB. `line` says that the library wrote that the limit cannot
be held. The bar is 2.0 for each; a second of reclaim a processor may pile up before the limiter comes on, so short runs show
more.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from benchlib import REPOSITORY, BenchError, clean_environment, markdown, selected, warn

TAX = pathlib.Path(__file__).resolve().parent / "tax"
FACTORS = (0.8, 1.0, 1.2, 1.5, 2.0, 3.0)
ROWS = (
    ("python3", ["python3", TAX / "table.py", "60000", "20"]),
    ("node", ["node", "--expose-gc", TAX / "table.js", "100000", "40"]),
    ("ruby", ["ruby", TAX / "table.rb", "60000", "60"]),
    ("php", ["php", TAX / "table.php", "100000", "30"]),
    ("java, G1", ["java", "-Xmx1g", "-XX:+UseG1GC", "Table", "500000", "120"]),
    ("java, Serial", ["java", "-Xmx1g", "-XX:+UseSerialGC", "Table", "500000", "120"]),
    ("java, Shenandoah", ["java", "-Xmx1g", "-XX:+UseShenandoahGC", "Table", "500000", "120"]),
    ("java, ZGC", ["java", "-Xmx1g", "-XX:+UseZGC", "Table", "500000", "120"]),
    ("erlang, named", ["escript", TAX / "table.escript", "200", "300"]),
)
# Adapters that are used only where they are named.
NAMED = {"erlang, named": "beam"}


def run(command, settings, directory):
    """(CPU seconds, peak MiB, bytes held, whether the limit could not be held)"""
    with tempfile.TemporaryFile(mode="w+") as said, tempfile.TemporaryFile(mode="w+") as complaint:
        child = subprocess.Popen(
            [str(word) for word in command], env={**clean_environment(), **settings}, cwd=directory,
            stdin=subprocess.DEVNULL, stdout=said, stderr=complaint,
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complaint.seek(0)
        lines, complaints = said.read().splitlines(), complaint.read()
    if status != 0 or len(lines) != 2:
        raise BenchError(f"{command[0]} ended with {child.returncode}: {complaints.strip()[-500:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, int(lines[0]), "cannot be held" in complaints


def row(name, command, library, runs, directory):
    """The cells of one runtime; each run at a limit has its own run without."""
    held_bytes = run(command, {}, directory)[2]
    cells = [f"{held_bytes / 2**20:.0f}"]
    quotients, peaks, complained = ({factor: [] for factor in FACTORS} for _ in range(3))
    plain_peaks = []
    for _ in range(runs):
        plain_seconds, plain_peak, _, _ = run(command, {}, directory)
        plain_peaks.append(plain_peak)
        for factor in FACTORS:
            settings = {"LD_PRELOAD": str(library), "MEMLIMIT": str(int(held_bytes * factor)), "MEMLIMIT_SOCKET": "off"}
            if name in NAMED:
                settings["MEMLIMIT_ADAPTERS"] = NAMED[name]
            seconds, peak, _, unheld = run(command, settings, directory)
            quotients[factor].append(seconds / plain_seconds)
            peaks[factor].append(peak)
            complained[factor].append(unheld)
    cells.append(f"{statistics.median(plain_peaks):.0f}")
    for factor in FACTORS:
        line = ", line" if any(complained[factor]) else ""
        worst = f" ({max(quotients[factor]):.2f})" if runs > 1 else ""
        cells.append(f"{statistics.median(quotients[factor]):.2f}{worst} {statistics.median(peaks[factor]):.0f}{line}")
    return [name, *cells]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=REPOSITORY / "build")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", help="comma-separated rows; a name selects by its start")
    options = parser.parse_args()
    library = (options.build / "preload" / "libmemlimit.so").resolve()
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        if shutil.which("javac"):
            subprocess.run(["javac", "-d", directory, str(TAX / "Table.java")], check=True)
        for name, command in ROWS:
            if not selected(name, options.only):
                continue
            if shutil.which(command[0]) is None or (command[0] == "java" and not any(os.scandir(directory))):
                warn(f"{name}: not here, left out")
                continue
            try:
                rows.append(row(name, command, library, options.runs, directory))
            except BenchError as error:
                warn(f"{name}: {error}")
                continue
            warn(" | ".join(rows[-1]))
    print(markdown(["runtime", "held, MiB", "peak", *(f"limit {factor:g} x" for factor in FACTORS)], rows))
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
