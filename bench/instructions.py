#!/usr/bin/env python3
"""Instructions for each way into the allocator, counted by callgrind: repeatable to the last one.

    bench/instructions.py              a table of all allocators
    bench/instructions.py --write      and keep memlimit's and forward's in golden/instructions.txt
    bench/instructions.py --check      compare with that file; status 1 when one grew by over 5 %
    bench/instructions.py --arm64 ROOT ...    of an arm64 build in a root, run by qemu, which logs
                                              each; golden/instructions_arm64.txt

A program runs n and 2n turns; the difference divided by n is one turn, start-up cancelled. The row
"loop" is the turn without any allocation and is contained in the rows of malloc and the others.
"true" is a whole process. What --check allows moves with `forward`, the same mimalloc without
memlimit: another mimalloc or C library than the one of the golden file is not memlimit's doing.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import benchlib
from benchlib import BenchError

ENTRIES = ("loop", "malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "new",
           "new_sized_delete", "new_aligned")
GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
TOLERANCE = 0.05


class Callgrind:
    """Of this machine's programs."""

    turns = 100_000
    true = "/bin/true"
    golden = GOLDEN / "instructions.txt"
    head = f"""\
# Instructions a turn for each entry point (bench/instructions.py --write), by callgrind.
# "true" is a whole process. --check fails when one of memlimit's grows by over {TOLERANCE:.0%}.
"""

    def count(self, argv, allocator):
        return callgrind(argv, allocator)


class Qemu:
    """Of a build for arm64 in a root where it has the same path. Debian's qemu has no plugin that counts, but
    translates one instruction at a time when it is told to, and logs each that it executes."""

    turns = 10_000
    golden = GOLDEN / "instructions_arm64.txt"
    head = f"""\
# Instructions a turn for each entry point on arm64 (bench/instructions.py --arm64 ROOT --write), by qemu.
# "true" is a whole process. --check fails when one of memlimit's grows by over {TOLERANCE:.0%}.
"""

    def __init__(self, root):
        self.qemu = next(filter(None, map(shutil.which, ("qemu-aarch64", "qemu-aarch64-static"))),
                         None)
        if self.qemu is None:
            raise BenchError("there is no qemu-aarch64 (scripts/setup --all installs qemu-user-static)")
        self.root = root
        self.true = root / "bin/true"
        usage = subprocess.run([self.qemu, "-h"], capture_output=True, text=True, check=False)
        self.one_each = ("-one-insn-per-tb" if "one-insn-per-tb" in usage.stdout
                         else "-singlestep")

    def count(self, argv, allocator):
        read_end, write_end = os.pipe()
        command = [self.qemu, "-L", str(self.root), self.one_each, "-d", "exec,nochain",
                   "-D", f"/proc/self/fd/{write_end}"]
        for setting in (f"LD_PRELOAD={allocator.preload}", *allocator.settings):
            command += ["-E", setting]
        with open(read_end, "rb", buffering=0) as lines, subprocess.Popen(
                [*command, *map(str, argv)], env=benchlib.clean_environment(),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                pass_fds=[write_end]) as process:
            os.close(write_end)
            number = sum(piece.count(b"\nTrace ") for piece in whole_lines(lines))
            errors = process.communicate()[1].decode(errors="replace")
        if process.returncode != 0 or number == 0:
            raise BenchError(f"qemu {argv[0]} under {allocator.name}: status {process.returncode}\n"
                             f"{errors[-500:]}")
        return number


def whole_lines(file):
    """The file in pieces that each begin with the line break before a line."""
    rest = b"\n"
    while data := file.read(1 << 20):
        data = rest + data
        end = data.rfind(b"\n")
        rest = data[end:]
        yield data[:end]
    yield rest


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


def count(options, counter, allocator):
    """{entry: instructions} for the selected entries."""
    program = options.build / "bench" / "bench_entry_points"
    result = {}
    for entry in ENTRIES:
        if benchlib.selected(entry, options.only):
            once, twice = (counter.count([program, entry, n], allocator)
                           for n in (counter.turns, 2 * counter.turns))
            result[entry] = (twice - once) / counter.turns
    if benchlib.selected("true", options.only):
        result["true"] = counter.count([counter.true], allocator)
    return result


def read_golden(counter):
    """{entry: {allocator: instructions}} from the golden file."""
    names, golden = [], {}
    for line in counter.golden.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not names:
            names = words[1:]
        else:
            golden[words[0]] = dict(zip(names, map(float, words[1:])))
    return golden


def write_golden(counter, counts):
    names = ("memlimit", "forward")
    lines = [counter.head + f"{'entry':<18}" + "".join(f"{n:>12}" for n in names)]
    for entry in counts["memlimit"]:
        lines.append(f"{entry:<18}" + "".join(f"{counts[n][entry]:>12.1f}" for n in names))
    counter.golden.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check(counter, counts):
    """One sentence for each entry that grew too much."""
    golden = read_golden(counter)
    missing = [f"{e}: not in {counter.golden.name}" for e in counts["memlimit"] if e not in golden]
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
    parser.add_argument("--arm64", type=pathlib.Path, metavar="ROOT",
                        help="of the build in a root for arm64, as tests/arm64/run makes it")
    options = parser.parse_args()
    if options.arm64:
        options.build = options.arm64.absolute() / "usr/src/memlimit/build"
    if options.write or options.check:
        options.allocators = "memlimit,forward"
    try:
        counter = Qemu(options.arm64) if options.arm64 else Callgrind()
        allocators = benchlib.prepare(options)
        names = [a.name for a in allocators]
        if (options.write or options.check) and not {"memlimit", "forward"} <= set(names):
            raise BenchError("the golden file needs memlimit and forward; build both")
        counts = {}
        for allocator in allocators:
            counts[allocator.name] = count(options, counter, allocator)
            benchlib.warn(f"{allocator.name} counted")
    except (BenchError, OSError) as error:
        sys.exit(f"instructions.py: {error}")
    rows = [[entry, *(f"{counts[n][entry]:,.1f}" if entry != "true" else f"{counts[n][entry]:,}"
                      for n in names)] for entry in counts[names[0]]]
    table = benchlib.markdown(["instructions a turn", *names], rows)
    benchlib.finish(options, table)
    if options.write:
        write_golden(counter, counts)
    if options.check:
        problems = check(counter, counts)
        for problem in problems:
            print(problem, file=sys.stderr)
        sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
