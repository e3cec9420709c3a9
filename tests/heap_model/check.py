#!/usr/bin/env python3
"""Explores heap.pml exhaustively with spin (Debian: spin), and checks that planted mistakes are found.

    check.py           two threads, one of them vanishing, three threads, and each mistake: a minute
    check.py --long    three threads, one of them vanishing, too

Exit status 77 (skipped) when spin or a C compiler is missing.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

MODEL = pathlib.Path(__file__).resolve().parent / "heap.pml"
SOUND = [
    ("two threads", ["THREADS=2", "TURNS=2"]),
    ("two threads, one vanishes", ["THREADS=2", "TURNS=2", "VANISH"]),
    ("three threads", ["THREADS=3", "TURNS=1"]),
]
LONG = [("three threads, one vanishes", ["THREADS=3", "TURNS=1", "VANISH"])]
MISTAKES = {
    1: "a claim does not look at the class afterwards",
    2: "a span is retired by one of its words",
    3: "a purge looks at the words without clearing them",
    4: "the end of a lease does not look for blocks",
}


def explore(definitions):
    """Errors found, states seen."""
    with tempfile.TemporaryDirectory() as directory:
        flags = [f"-D{d}" for d in definitions]
        subprocess.run(["spin", "-a", *flags, str(MODEL)], cwd=directory, check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run([compiler(), "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=4000",
                        "-o", "pan", "pan.c"], cwd=directory, check=True)
        out = subprocess.run(["./pan", "-m200000", "-w24"], cwd=directory, check=True,
                             capture_output=True, text=True).stdout
    errors = re.search(r"errors: (\d+)", out)
    states = re.search(r"(\d+) states, stored", out)
    if errors is None or states is None or "Search not completed" in out and errors.group(1) == "0":
        sys.exit(f"spin did not finish:\n{out}")
    return int(errors.group(1)), int(states.group(1))


def compiler():
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def main():
    if shutil.which("spin") is None or compiler() is None:
        print("spin or a C compiler is missing")
        sys.exit(77)
    failed = False
    for name, definitions in SOUND + (LONG if "--long" in sys.argv[1:] else []):
        errors, states = explore(definitions)
        print(f"{name}: {states} states, {errors} errors", flush=True)
        failed |= errors != 0
    for fault, name in MISTAKES.items():
        errors, states = explore(["THREADS=2", "TURNS=2", f"FAULT={fault}"])
        print(f"planted: {name}: {'found' if errors else 'NOT FOUND'} ({states} states)", flush=True)
        failed |= errors == 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
