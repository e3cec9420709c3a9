#!/usr/bin/env python3
"""Tries other values of a constant of the pacer, the limiter or the ranking, in simulated time.

    bench/sweep_pacer.py kGapDivisor 2 4 8 16
    bench/sweep_pacer.py kSharePower 1 2 3 4 6 --scenario lru-2t --scenario sawtooth

The header is copied to a temporary directory with the constant changed, the simulation is compiled
against the copy, and its table is printed for each value. Nothing in the tree is touched.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACING = ROOT / "lib" / "pacing"
HEADERS = ("pacer.h", "limiter.h", "ranking.h")
DEFAULT = ["lru-1t", "lru-2t", "lru-4t", "sawtooth", "bursty", "slow-hook", "lumps", "leak"]


def build(constant, value, folder):
    """Compiles pacer_sim with the constant changed; returns the program's path."""
    found = 0
    copies = folder / "pacing"
    copies.mkdir()
    for name in HEADERS:
        text = (PACING / name).read_text()
        text, count = re.subn(rf"(constexpr \w+ {constant} =\s*)[^;]+;", rf"\g<1>{value};", text)
        found += count
        (copies / name).write_text(text)
    if found != 1:
        sys.exit(f"sweep_pacer: {constant} is not one constant of {', '.join(HEADERS)}")
    for source in ("pacer.cc", "limiter.cc", "ranking.cc"):
        (copies / source).write_text((PACING / source).read_text())
    program = folder / "pacer_sim"
    sources = [copies / s for s in ("pacer.cc", "limiter.cc", "ranking.cc")]
    sources += [ROOT / "bench" / s for s in ("pacer_model.cc", "pacer_sim.cc")]
    includes = [f"-I{folder}", f"-I{ROOT / 'lib'}"]
    subprocess.run(["c++", "-O2", "-std=c++20", *includes, *sources, "-o", program], check=True)
    return program


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("constant")
    parser.add_argument("values", nargs="+")
    parser.add_argument("--scenario", action="append", help="default: " + ", ".join(DEFAULT))
    parser.add_argument("--limits", action="store_true", help="other limits instead of scenarios")
    options = parser.parse_args()
    for value in options.values:
        with tempfile.TemporaryDirectory() as folder:
            program = build(options.constant, value, pathlib.Path(folder))
            print(f"\n{options.constant} = {value}")
            if options.limits:
                subprocess.run([program, "--limits"], check=True)
                continue
            out = subprocess.run([program], check=True, capture_output=True, text=True).stdout
            lines = out.splitlines()
            wanted = options.scenario or DEFAULT
            print("\n".join([lines[0], *(l for l in lines[1:] if l.split()[0] in wanted)]))


if __name__ == "__main__":
    main()
