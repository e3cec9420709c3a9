#!/usr/bin/env python3
"""Where the time of an allocation goes that instructions do not show: cache misses and mispredicted branches.

    bench/misses.py                    memlimit and forward, for each program of the suite
    bench/misses.py --only larson      and for memlimit the source lines that they come from

By cachegrind, which simulates: repeatable, unlike the counters of a virtual machine, and blind to what cores do to
each other. The caches are a first level of 32 KiB and a second one of 1 MiB. A program runs n and 2n turns; the
difference divided by n is one turn. Lines need a build with -Ddebug=true, which does not change the code.
"""

import argparse
import collections
import pathlib
import subprocess
import sys
import tempfile

import benchlib
import run
from benchlib import BenchError

# As cachegrind calls them: instructions; misses of the first level, of the second (reading and writing); branches
# mispredicted (conditional and indirect).
EVENTS = {"instructions": ("Ir",), "D1 misses": ("D1mr", "D1mw"), "L2 misses": ("DLmr", "DLmw"),
          "mispredicted": ("Bcm", "Bim")}
# A turn under cachegrind takes as long as fifty to a hundred without.
DIVISOR = 400
LINES = 12


def cachegrind(argv, allocator):
    """{(file, line): {event: count}} of the whole process."""
    with tempfile.NamedTemporaryFile("r", suffix=".cachegrind") as out:
        done = subprocess.run(
            ["valgrind", "--tool=cachegrind", "--cache-sim=yes", "--branch-sim=yes", "--D1=32768,8,64",
             "--LL=1048576,16,64", f"--cachegrind-out-file={out.name}", *map(str, argv)],
            env=allocator.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"cachegrind {argv[0]} under {allocator.name}: status {done.returncode}\n"
                             f"{done.stderr[-500:]}")
        return parse(out)


def parse(lines):
    counts = collections.defaultdict(collections.Counter)
    names, file = [], ""
    for line in lines:
        if line.startswith("events:"):
            names = line.split()[1:]
        elif line.startswith("fl="):
            file = line[3:].strip()
        elif line[:1].isdigit():
            number, *values = map(int, line.split())
            counts[file, number].update(dict(zip(names, values)))
    return counts


def per_turn(once, twice, turns):
    """{(file, line): {event: count a turn}}"""
    return {where: {name: (count - once.get(where, {}).get(name, 0)) / turns for name, count in counts.items()}
            for where, counts in twice.items()}


def total(counts, events):
    return sum(line.get(event, 0) for line in counts.values() for event in events)


def is_ours(file):
    parts = pathlib.PurePath(file).parts
    return len(parts) > 1 and parts[-2] in ("lib", "preload", "adapters")


def line_table(counts):
    """Our own lines by the misses that they have."""
    ours = {where: line for where, line in counts.items() if is_ours(where[0])}
    if not ours:
        return "No line of the library is known: build with -Ddebug=true."
    def share(where, events):
        return sum(ours[where].get(event, 0) for event in events)

    order = sorted(ours, key=lambda where: [share(where, EVENTS[n]) for n in ("D1 misses", "instructions")], reverse=True)
    rows = [[f"{pathlib.PurePath(file).name}:{number}", *(f"{share((file, number), e):.3f}" for e in EVENTS.values())]
            for file, number in order[:LINES]]
    rows.append(["all of ours", *(f"{sum(share(w, e) for w in ours):.3f}" for e in EVENTS.values())])
    rows.append(["the whole program", *(f"{total(counts, e):.3f}" for e in EVENTS.values())])
    return benchlib.markdown(["a turn", *EVENTS], rows)


def measure(options, case, allocator):
    name, iterations, rest = run.SUITE[case]
    turns = max(10, iterations // DIVISOR // (10 if options.quick else 1))
    once, twice = (cachegrind([run.program(options, name), n, *rest], allocator) for n in (turns, 2 * turns))
    return per_turn(once, twice, turns)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    benchlib.add_arguments(parser, runs=1)
    options = parser.parse_args()
    options.allocators = "memlimit,forward"
    try:
        allocators = benchlib.prepare(options)
        rows, lines = [], []
        for case in (c for c in run.SUITE if benchlib.selected(c, options.only)):
            counts = {a.name: measure(options, case, a) for a in allocators}
            rows.append([case, *(f"{total(counts['memlimit'], e):,.2f} / {total(counts['forward'], e):,.2f}"
                                 for e in EVENTS.values())])
            if options.only:
                lines.append(f"### {case}\n\n{line_table(counts['memlimit'])}")
            benchlib.warn(f"{case} counted")
    except (BenchError, OSError) as error:
        sys.exit(f"misses.py: {error}")
    benchlib.finish(options, "\n\n".join([
        f"## A turn, memlimit / forward\n\n{benchlib.host()}", benchlib.markdown(["", *EVENTS], rows), *lines]))


if __name__ == "__main__":
    main()
