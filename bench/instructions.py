#!/usr/bin/env python3
"""Instructions for each way into the allocator, counted by callgrind: repeatable to the last one.

    bench/instructions.py              a table of all allocators
    bench/instructions.py --write      and keep memlimit's and forward's in golden/instructions.txt
    bench/instructions.py --check      compare with that file; status 1 when one grew by over 5 %

A program runs n and 2n turns; the difference divided by n is one turn, start-up cancelled. The row
"loop" is the turn without any allocation and is contained in the rows of malloc and the others.
"true" is a whole process. What --check allows moves with `forward`, the same mimalloc without
memlimit: another mimalloc or C library than the one of the golden file is not memlimit's doing.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import benchlib
from benchlib import BenchError

ENTRIES = ("loop", "malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "new",
           "new_sized_delete", "new_aligned")
TURNS = 100_000
GOLDEN = pathlib.Path(__file__).resolve().parent / "golden" / "instructions.txt"
TOLERANCE = 0.05
HEAD = f"""\
# Instructions a turn for each entry point (bench/instructions.py --write), by callgrind.
# "true" is a whole process. --check fails when one of memlimit's grows by over {TOLERANCE:.0%}.
"""


def callgrind(argv, allocator):
    """Instructions of the whole process."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
             f"--log-file={log.name}", *map(str, argv)],
            env=allocator.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False)
        text = log.read()
    collected = re.search(r"Collected : (\d+)", text)
    if done.returncode != 0 or not collected:
        raise BenchError(f"callgrind {argv[0]} under {allocator.name}: status {done.returncode}\n"
                         f"{text[-500:]}{done.stderr[-500:]}")
    return int(collected.group(1))


def count(options, allocator):
    """{entry: instructions} for the selected entries."""
    program = options.build / "bench" / "bench_entry_points"
    result = {}
    for entry in ENTRIES:
        if benchlib.selected(entry, options.only):
            once, twice = (callgrind([program, entry, n], allocator) for n in (TURNS, 2 * TURNS))
            result[entry] = (twice - once) / TURNS
    if benchlib.selected("true", options.only):
        result["true"] = callgrind(["/bin/true"], allocator)
    return result


def read_golden():
    """{entry: {allocator: instructions}} from the golden file."""
    names, golden = [], {}
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not names:
            names = words[1:]
        else:
            golden[words[0]] = dict(zip(names, map(float, words[1:])))
    return golden


def write_golden(counts):
    names = ("memlimit", "forward")
    lines = [HEAD + f"{'entry':<18}" + "".join(f"{n:>12}" for n in names)]
    for entry in counts["memlimit"]:
        lines.append(f"{entry:<18}" + "".join(f"{counts[n][entry]:>12.1f}" for n in names))
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check(counts):
    """One sentence for each entry that grew too much."""
    golden = read_golden()
    missing = [f"{e}: not in {GOLDEN.name}" for e in counts["memlimit"] if e not in golden]
    grown = []
    for entry, before in golden.items():
        if entry not in counts["memlimit"]:
            continue
        now = counts["memlimit"][entry]
        moved = counts["forward"][entry] - before["forward"]
        allowed = before["memlimit"] * (1 + TOLERANCE) + moved
        if now > allowed:
            grown.append(f"{entry}: {now:.1f} instructions, {allowed:.1f} are allowed "
                         f"(golden {before['memlimit']:.1f})")
    return missing + grown


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    benchlib.add_arguments(parser, runs=1)
    parser.add_argument("--write", action="store_true", help="write the golden file")
    parser.add_argument("--check", action="store_true", help="compare with the golden file")
    options = parser.parse_args()
    if options.write or options.check:
        options.allocators = "memlimit,forward"
    try:
        allocators = benchlib.prepare(options)
        names = [a.name for a in allocators]
        if (options.write or options.check) and not {"memlimit", "forward"} <= set(names):
            raise BenchError("the golden file needs memlimit and forward; build both")
        counts = {}
        for allocator in allocators:
            counts[allocator.name] = count(options, allocator)
            benchlib.warn(f"{allocator.name} counted")
    except (BenchError, OSError) as error:
        sys.exit(f"instructions.py: {error}")
    rows = [[entry, *(f"{counts[n][entry]:,.1f}" if entry != "true" else f"{counts[n][entry]:,}"
                      for n in names)] for entry in counts[names[0]]]
    table = benchlib.markdown(["instructions a turn", *names], rows)
    benchlib.finish(options, table)
    if options.write:
        write_golden(counts)
    if options.check:
        problems = check(counts)
        for problem in problems:
            print(problem, file=sys.stderr)
        sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
