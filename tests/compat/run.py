#!/usr/bin/env python3
"""run.py - holds real programs to the same behaviour with libmemlimit.so as without it.

Reads programs.list (or another list), runs each row's script three times in an empty directory of the same
name - plain, with the library, with the library under a tight limit and with a heap profile - and compares exit status and standard
output. With the library, nothing of it may appear on standard error either. Prints TAP, a line a comparison;
`# SKIP` where a program is missing. --cpython makes a row of each module of CPython's own tests that no list
names. --markdown writes the same as a table, with versions: RESULTS.md is one. It ends only processes that it
started: each script is its own session, and whatever is left of that session is killed by id.
"""

import argparse
import concurrent.futures
import dataclasses
import difflib
import glob
import hashlib
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TIGHT_LIMIT = "16MiB"
TIGHT_PROFILE = "4KiB"
# A script hangs that has used hardly any processor time for so long, or so much of it: the slowest takes seconds. How
# long it takes says nothing, where others have the processors.
PATIENCE_S = 300
HARDLY_ANY_S = 1
# What a script answers when the machine does not let the plain program do its work.
SKIPPED = 77
CPYTHON = "/usr/bin/python3"
# `python3.11`, say: the lists call it python3.N.
CPYTHON_N = os.path.basename(os.path.realpath(CPYTHON))
CPYTHON_TESTS = f"lib{CPYTHON_N}-testsuite"
# Of CPython's modules that are in no list: tests to leave out, and why.
CPYTHON_LEFT_OUT = {
    "test_descr": ("test_slots", "it counts the objects that the collector knows"),
    "test_socket": ("*VSOCK*", "a virtual machine may have the address family and nobody who answers"),
}


@dataclasses.dataclass
class Row:
    name: str
    needs: list  # (path or command, package)
    script: list
    left_out: str
    # Tests of others may hang on the hour, on a port or on who runs beside them: what differs is then run once more,
    # both without the library and with it, and counts when the two differ again.
    may_be_unsteady: bool = False


@dataclasses.dataclass
class Outcome:
    status: int | str
    output: bytes
    errors: bytes
    seconds: float


def present_form(binary):
    """The newest that a pattern names, and a module that has become a package; else the name as it is."""
    if "*" in binary:
        return max(glob.glob(binary), key=lambda name: (len(name), name), default=binary)
    package = f"{binary[:-3]}/__init__.py"
    return package if binary.endswith(".py") and not os.path.exists(binary) and os.path.exists(package) else binary


def read_rows(path):
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 4 or not all(cells):
            sys.exit(f"{path}:{number}: not `name | needs | script | left out`")
        needs = []
        for need in cells[1].replace("python3.N", CPYTHON_N).split():
            binary, _, package = need.partition("@")
            needs.append((present_form(binary), package or binary.rsplit("/", 1)[-1]))
        rows.append(Row(cells[0], needs, cells[2].split(), cells[3]))
    return rows


def cpython_rows(listed):
    """A row for each module of CPython's own tests that has none in the lists."""
    named = {row.script[1] for row in listed if row.script[0] == "python_test.sh"}
    asked = subprocess.run([CPYTHON, "-m", "test", "--list-tests"], stdin=subprocess.DEVNULL, capture_output=True,
                           text=True, check=True)
    needs = [(CPYTHON, CPYTHON_TESTS)]
    rows = []
    for module in asked.stdout.split():
        if module in named:
            continue
        pattern, reason = CPYTHON_LEFT_OUT.get(module, ("", ""))
        rows.append(Row(module, needs, ["python_test.sh", module, *([pattern] if pattern else [])],
                        "durations: a clock's" + (f"; {pattern}: {reason}" if pattern else ""), may_be_unsteady=True))
    return rows


def missing(row):
    for binary, package in row.needs:
        if shutil.which(binary, path=PATH) is None and not os.path.exists(binary):
            return f"no {binary} (package {package})"
    return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_elf(path):
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def loads(program, library):
    """Whether the loader would put the library into the program; it lists and runs nothing."""
    path = shutil.which(program, path=PATH)
    if path is None or not is_elf(os.path.realpath(path)):
        return True  # a script: what interprets it is a program of the list itself
    listing = subprocess.run(
        [path],
        env={"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": library},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return os.path.basename(library).encode() in listing.stdout


def session_members(session):
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="latin1") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                yield int(entry)


def processor_seconds(session):
    """Of those that live, and of the children that they have waited for."""
    ticks = 0
    for pid in session_members(session):
        try:
            with open(f"/proc/{pid}/stat", encoding="latin1") as file:
                ticks += sum(int(field) for field in file.read().rpartition(")")[2].split()[11:15])
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def wait(process, patience):
    """Its exit status, or in which way it hangs."""
    noted_s, noted_at = 0.0, time.monotonic()
    while True:
        try:
            return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            pass
        used_s = processor_seconds(process.pid)
        if used_s > patience:
            return f"still running after {used_s:.0f} s of processor time"
        if abs(used_s - noted_s) >= HARDLY_ANY_S:
            noted_s, noted_at = used_s, time.monotonic()
        elif time.monotonic() - noted_at > patience:
            return f"hardly any processor time used for {patience:g} s"


def run_once(row, directory, extra, port, patience):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o755)
    environment = {
        "PATH": PATH,
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LC_ALL": "C",
        "TZ": "UTC",
        "USER": pwd.getpwuid(os.getuid()).pw_name,
        "PORT": str(port),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        **extra,
    }
    began = time.monotonic()
    # Files, not pipes: a daemon left behind would hold a pipe open for ever.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            ["/bin/sh", "-eu", str(HERE / "rows" / row.script[0]), *row.script[1:]],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        status = wait(process, patience)
        left = list(session_members(process.pid))
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.wait()
        if left and isinstance(status, int):
            status = f"{status}, and left {len(left)} processes behind"
        out.seek(0)
        err.seek(0)
        return Outcome(status, out.read(), err.read(), time.monotonic() - began)


def difference(plain, other):
    """None, or what a reader needs to see."""
    notes = []
    if plain.status != other.status:
        notes.append(f"status {other.status} instead of {plain.status}")
    if plain.output != other.output:
        changed = [
            line
            for line in difflib.unified_diff(
                plain.output.decode(errors="replace").splitlines(),
                other.output.decode(errors="replace").splitlines(),
                n=0,
                lineterm="",
            )
            if not line.startswith(("---", "+++", "@@"))
        ]
        notes.append(
            f"sha256 of stdout {hashlib.sha256(other.output).hexdigest()[:16]} instead of "
            f"{hashlib.sha256(plain.output).hexdigest()[:16]}; - without, + with the library:"
        )
        notes += [line[:300] for line in changed[:10]]
    # The loader's complaints and the library's own lines; a program that merely says the word is not meant.
    ours = re.compile(rb"^(memlimit[\[:]|ERROR: ld\.so)")
    for line in other.errors.splitlines():
        if ours.match(line):
            notes.append(f"standard error: {line[:200].decode(errors='replace')}")
            break
    if notes and other.errors:
        tail = b"\n".join(other.errors.splitlines()[-30:]).decode(errors="replace")
        notes.append(f"end of standard error:\n{tail}")
    return "\n".join(notes) or None


def run_row(row, library, work, patience):
    """[(comparison, problem or None, seconds)]"""
    directory = work / row.name
    if not loads(row.needs[0][0], library):
        return [("loads", f"the loader does not put the library into {row.needs[0][0]}", 0.0)]
    port = free_port()
    plain = run_once(row, directory, {}, port, patience)
    if plain.status == SKIPPED:
        return [(f"# SKIP {plain.errors.decode(errors='replace').strip()}", None, 0.0)]
    if not isinstance(plain.status, int) or not plain.output:
        problem = f"the script itself fails, without the library: status {plain.status}\n"
        return [("plain", problem + plain.errors[-2000:].decode(errors="replace"), plain.seconds)]
    results = []
    for comparison, extra in (
        ("with the library", {"LD_PRELOAD": library}),
        # Below `warn`: that the limit cannot be held is one line on standard error, which a program that
        # captures its children's standard error would see. Stacks are walked meanwhile, a hundred times as often as by default.
        (
            f"at {TIGHT_LIMIT}",
            {"LD_PRELOAD": library, "MEMLIMIT": TIGHT_LIMIT, "MEMLIMIT_LOG": "error", "MEMLIMIT_PROFILE": TIGHT_PROFILE},
        ),
    ):
        other = run_once(row, directory, extra, port, patience)
        problem = difference(plain, other)
        if problem and row.may_be_unsteady:
            again = run_once(row, directory, {}, port, patience)
            other = run_once(row, directory, extra, port, patience)
            problem = difference(again, other) and difference(plain, other)
        results.append((comparison, problem, other.seconds))
    shutil.rmtree(directory, ignore_errors=True)
    return results


def version(row):
    return version_of(row.needs[0][1])


def version_of(package):
    """Of a Debian package, where the name is one."""
    asked = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, check=False)
    return f"{package} {asked.stdout}" if asked.returncode == 0 else package


def what_is_run(row):
    """The first line of the script, which says it."""
    with open(HERE / "rows" / row.script[0], encoding="utf-8") as file:
        line = file.readline().lstrip("# ").strip().rstrip(".")
    for number, argument in enumerate(row.script[1:], 1):
        line = line.replace(f"(${number})", f"`{argument}`").replace(f"${number}", f"`{argument}`")
    return line.replace(". $PORT is free", "").replace("|", "/")


class Table:
    """The results in Markdown."""

    def __init__(self):
        self.lines = ["| program | version | what is run | with the library | at " + TIGHT_LIMIT + " |",
                      "|---|---|---|---|---|"]
        self.modules = []

    def add(self, row, verdicts):
        if row.may_be_unsteady:
            self.modules.append(verdicts)
            if verdicts.count("same") == 2 or "not run" in verdicts:
                return
        self.line(row.name, version(row), what_is_run(row), verdicts)

    def line(self, name, told, what, verdicts):
        self.lines.append("| " + " | ".join([name, told, what, *verdicts]) + " |")

    def write(self, path):
        if self.modules:
            ran = [verdicts for verdicts in self.modules if "not run" not in verdicts]
            self.line("CPython's other tests", version_of(CPYTHON_TESTS), f"{len(ran)} modules, each single test compared",
                      [f"same in {sum(verdicts[i] == 'same' for verdicts in ran)}" for i in (0, 1)])
        heading = ("# What ran under the library, and how\n\nExit status and standard output are compared with "
                   "those of the program without it.\n\n")
        path.write_text(heading + "\n".join(self.lines) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description="Programs must behave the same under libmemlimit.so.")
    parser.add_argument("library", help="libmemlimit.so")
    parser.add_argument("only", nargs="*", help="names of rows (default: all)")
    parser.add_argument("--list", nargs="+", default=["programs.list"],
                        help="beside this file (default: programs.list)")
    parser.add_argument("--cpython", action="store_true",
                        help="also each module of CPython's own tests that no list names (more than an hour)")
    parser.add_argument("--markdown", type=pathlib.Path, help="write a table there, too")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds of processor time, or of hardly any, before a script counts as hung")
    arguments = parser.parse_args()
    library = os.path.realpath(arguments.library)
    if not os.path.isfile(library):
        sys.exit(f"no such library: {library}")
    rows = [row for name in arguments.list for row in read_rows(HERE / name)]
    if arguments.cpython:
        every = [row for file in sorted(HERE.glob("*.list")) for row in read_rows(file)]
        rows += cpython_rows(every)
    table = Table()
    if unknown := set(arguments.only) - {row.name for row in rows}:
        sys.exit(f"no such row: {', '.join(sorted(unknown))}")
    rows = [row for row in rows if not arguments.only or row.name in arguments.only]

    number = failures = 0
    with tempfile.TemporaryDirectory(prefix="compat.") as work:
        os.chmod(work, 0o755)  # nginx and postgres run their workers as another user
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            jobs = [
                None if missing(row) else pool.submit(run_row, row, library, pathlib.Path(work), arguments.patience)
                for row in rows
            ]
            for row, job in zip(rows, jobs):
                if job is None:
                    number += 1
                    print(f"ok {number} - {row.name} # SKIP {missing(row)}", flush=True)
                    continue
                comparisons = job.result()
                verdicts = ["**differs**" if problem else "same" for _, problem, _ in comparisons]
                table.add(row, verdicts if len(verdicts) == 2 else ["not run"] * 2)
                for comparison, problem, seconds in comparisons:
                    number += 1
                    failures += problem is not None
                    verdict = "not ok" if problem else "ok"
                    print(f"{verdict} {number} - {row.name} {comparison} ({seconds:.1f} s)", flush=True)
                    for line in (problem or "").splitlines():
                        print(f"#   {line}", flush=True)
    print(f"1..{number}")
    if arguments.markdown:
        table.write(arguments.markdown)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
