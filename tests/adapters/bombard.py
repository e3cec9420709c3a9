#!/usr/bin/env python3
"""bombard.py - starts language runtimes under a bombardment of reclaim, a great many times.

    bombard.py BUILD_DIR                       1,000 starts of each runtime
    bombard.py BUILD_DIR --starts 16           the short form that the tests run
    bombard.py BUILD_DIR --only ruby
    bombard.py BUILD_DIR --only java php --programs JavaWorks works.php --starts 4 --work 60

Each start is one of the programs in programs/, which live with threads, workers, forks, waits, finalisers
and exit handlers, at a limit far below what they hold. In half of the starts a plugin demands everything
that can be reclaimed each 0.3 ms, from before main until the process is gone, and the heap profile walks the
stack each 4 KiB; in the others the limit alone asks. Status and standard output must be those of the program without the library, and it must end. A
runtime that is not installed is left out and said so; with none of them the status is 77.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PATH = "/usr/local/bin:/usr/bin:/bin"
PROGRAMS = HERE / "programs"
LIMIT = "4MiB"
# A start takes a second or two, most of it collections; one that takes so long hangs.
PATIENCE_S = 300


@dataclasses.dataclass(frozen=True)
class Program:
    runtime: str
    command: tuple
    adapter: str

    def name(self):
        return pathlib.Path(self.command[-1]).name

    def is_called(self, names):
        return not names or self.name() in names


@dataclasses.dataclass
class Ended:
    status: int | str
    output: str
    errors: str
    reclaims: int = 0


def java_programs(java, directory):
    """Compiled once: the compiler is a Java program itself, and each start would be one of it."""
    path, compiler = (shutil.which(tool, path=PATH) for tool in (java, str(pathlib.Path(java).parent / "javac")))
    if path is None or compiler is None:
        print("# left out: java is not installed", flush=True)
        return []
    files = sorted(PROGRAMS.glob("*.java"))
    subprocess.run([compiler, "-d", directory, *files], check=True)
    # What small containers get by default, and what others do.
    return [
        Program("java", (path, f"-XX:+Use{collector}GC", "-Xmx128m", "-cp", directory, file.stem), "jvm")
        for file in files
        for collector in ("Serial", "G1")
    ]


def programs(python, java, php, directory):
    found = java_programs(java, directory)
    for runtime, binary, adapter, ending, *options in (
        ("python3", python, "cpython", ".py"),
        ("node", "node", "v8", ".js"),
        ("ruby", "ruby", "ruby", ".rb"),
        ("php", php, "php", ".php", "-d", "zend.assertions=1"),
    ):
        path = shutil.which(binary, path=PATH)
        if path is None:
            print(f"# left out: {runtime} is not installed", flush=True)
            continue
        for file in sorted(PROGRAMS.glob("*" + ending)):
            found.append(Program(runtime, (path, *options, str(file)), adapter))
    return found


def group_members(group):
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == group:
                yield entry
        except OSError:
            continue


def where_it_waits(process):
    try:
        return ", ".join(sorted((task / "wchan").read_text() or "running" for task in (process / "task").iterdir()))
    except OSError:
        return "gone"


def wait(process, patience):
    """Its status, or a text that says where it and its children hang, and then they are gone."""
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        where = "; ".join(f"{member.name}: {where_it_waits(member)}" for member in group_members(process.pid))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"none, still running after {patience:.0f} s ({where})"


def run(program, settings, arguments):
    environment = {"PATH": PATH, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
                   "WORK_S": str(arguments.work)}
    with tempfile.TemporaryDirectory(prefix="memlimit-bombard-") as directory:
        log = pathlib.Path(directory) / "log"
        if settings:
            settings = {**settings, "MEMLIMIT_LOG": f"debug:{log}", "MEMLIMIT_SOCKET": directory + "/"}
        # Files, not pipes: a child that is left behind would hold a pipe open for ever.
        with open(f"{directory}/out", "w+b") as out, open(f"{directory}/err", "w+b") as err:
            process = subprocess.Popen(program.command, env={**environment, **settings}, cwd=directory,
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
            status = wait(process, arguments.patience)
            out.seek(0)
            err.seek(0)
            output, errors = (file.read().decode(errors="replace") for file in (out, err))
        ran = "event=adapter_ran "
        text = log.read_text(errors="replace") if log.exists() else ""
        reclaims = sum(ran in line and f"adapter={program.adapter} " in line for line in text.splitlines())
        return Ended(status, output, errors, reclaims)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--starts", type=int, default=1000, help="of each runtime (default 1000)")
    parser.add_argument("--only", nargs="*", default=[], metavar="RUNTIME")
    parser.add_argument("--programs", nargs="*", default=[], metavar="FILE", help="only these, by name")
    parser.add_argument("--python", default="/usr/bin/python3", help="the CPython to start")
    parser.add_argument("--java", default="java", help="the Java to start; javac is beside it")
    parser.add_argument("--php", default="php", help="the PHP to start")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--interval-us", type=int, default=300, help="between two demands")
    parser.add_argument("--profile", default="4KiB", help="MEMLIMIT_PROFILE of those that are bombarded")
    parser.add_argument("--work", type=float, default=0.3, help="seconds for which the programs work that can (default 0.3)")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds until a start counts as hung")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    under = {"LD_PRELOAD": str(build / "preload" / "libmemlimit.so"), "MEMLIMIT": LIMIT}
    plugin = {
        "MEMLIMIT_PLUGINS": str(build / "tests" / "adapters" / "libbombard_plugin.so"),
        "BOMBARD_US": str(arguments.interval_us),
        "MEMLIMIT_PROFILE": arguments.profile,
    }
    with tempfile.TemporaryDirectory(prefix="memlimit-bombard-") as directory:
        chosen = [
            program
            for program in programs(arguments.python, arguments.java, arguments.php, directory)
            if (not arguments.only or program.runtime in arguments.only) and program.is_called(arguments.programs)
        ]
        if not chosen:
            sys.exit(77)
        sys.exit(1 if bombard(chosen, arguments, under, plugin) else 0)


def shortened(text, most=6000):
    """A crash report says what happened first, and ends with pages of mappings."""
    return text if len(text) <= most else f"{text[:most]}\n... {len(text) - most} characters more\n"


def bombard(chosen, arguments, under, plugin):
    """How many starts failed, or runtimes had no reclaim."""
    bad = 0
    for runtime in dict.fromkeys(program.runtime for program in chosen):
        mine = [program for program in chosen if program.runtime == runtime]
        plain = {program: run(program, {}, arguments) for program in mine}
        for program, ended in plain.items():
            assert ended.output.startswith("done"), f"{program.name()} fails without the library: {ended}"

        def start(number, mine=mine):
            program = mine[number // 2 % len(mine)]
            settings = {**under, **plugin} if number % 2 == 0 else under
            return program, settings, run(program, settings, arguments)

        began = time.monotonic()
        failures = reclaims = 0
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            for program, settings, ended in pool.map(start, range(arguments.starts)):
                reclaims += ended.reclaims
                expected = plain[program]
                if (ended.status, ended.output) == (expected.status, expected.output):
                    continue
                failures += 1
                how = "bombarded" if "MEMLIMIT_PLUGINS" in settings else "at the limit"
                print(f"FAILED {program.name()} {how}: status {ended.status} instead of {expected.status}\n"
                      f"{ended.output[-500:]}{shortened(ended.errors)}", flush=True)
        seconds = time.monotonic() - began
        print(f"{runtime}: {arguments.starts} starts, {failures} failed, {reclaims} reclaims at safe points "
              f"({seconds:.0f} s)", flush=True)
        bad += failures
        # Without reclaims it was no bombardment.
        if reclaims < arguments.starts:
            print(f"FAILED {runtime}: only {reclaims} reclaims", flush=True)
            bad += 1
    return bad


if __name__ == "__main__":
    main()
