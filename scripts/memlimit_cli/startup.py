"""Whether a program is, or would be, under the library: the library itself, settings, preload, the program. Each
finding names its remedy.

A running process may be anybody's while root looks. What it says of itself (its environment, the path of its
program) is looked at and shown; nothing that it names is run, loaded, or written to.
"""

import contextlib
import os
import pathlib
import platform
import re
import shutil
import stat
import subprocess

from . import elf, processes
from .text import UserError, printable

# Names of libraries that bring a malloc of their own, as they appear in file names.
ALLOCATORS = re.compile(r"lib(jemalloc|tcmalloc\w*|mimalloc|hoard|snmalloc\w*|rpmalloc\w*|scudo|asan|tsan|lsan)\b")
# Settings that name a file, all or in part (the level in front of MEMLIMIT_LOG's can be checked by itself).
NAMES_A_FILE = ("MEMLIMIT_SOCKET", "MEMLIMIT_PLUGINS", "MEMLIMIT_LOG")
# What MEMLIMIT_STRICT may be: probe() gives it a value of its own, so the library does not see the one it has.
STRICT_WORDS = ("", "on", "1", "yes", "true", "off", "0", "no", "false", "check")
NO_SETTING = "no MEMLIMIT variable is set: without a limit, memlimit only counts"
BAD, FINE, NOTE = "bad ", "ok  ", "note"


class Findings:
    def __init__(self):
        self.found = []  # (kind, text)

    @property
    def bad(self):
        return sum(kind == BAD for kind, _ in self.found)

    def add(self, kind, text):
        self.found.append((kind, printable(text)))


def find_library(name=processes.LIBRARY):
    """As memlimit-run looks for it: beside the command in the archive, in the build tree, or installed."""
    here = pathlib.Path(__file__).resolve().parent
    archive = here.parent  # of ARCHIVE/memlimit_cli
    build = archive.parent  # of build/scripts/memlimit_cli
    prefix = build.parent  # of PREFIX/share/memlimit/memlimit_cli
    trees = [build / "preload", build / "build" / "preload"]
    if name == processes.LIBRARY_FOR_MUSL:
        trees = [tree / "musl" for tree in trees]
    tries = [archive, *trees, *sorted((prefix / "lib").glob("*")), prefix / "lib64", prefix / "lib"]
    for directory in tries:
        if (directory / name).is_file():
            return (directory / name).resolve()
    return None


def probe(library, environment):
    """What a process that only looks at its settings says under the library, and its status."""
    result = subprocess.run(
        ["/bin/sh", "-c", ":"],
        env={**environment, "LD_PRELOAD": str(library), "MEMLIMIT_STRICT": "check"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    return result.returncode, result.stderr.strip()


def check_library(findings):
    library = find_library()
    if library is None:
        findings.add(BAD, "libmemlimit.so is neither built nor installed beside this command")
        return None
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("MEMLIMIT", "LD_"))}
    status, said = probe(library, plain)
    if status or "cannot be preloaded" in said or "error while loading" in said:
        findings.add(BAD, f"{library} does not load: {'; '.join(said.splitlines()) or f'status {status}'}")
        if "libmimalloc" in said:
            findings.add(BAD, "libmimalloc is missing: apt install libmimalloc2.0")
        return None
    findings.add(FINE, f"{library} loads")
    return library


def without_files(settings):
    """What of a stranger's settings may be tried out, and the names of those of which something is left out."""
    tried = {key: value for key, value in settings.items() if key not in NAMES_A_FILE}
    level, colon, _ = settings.get("MEMLIMIT_LOG", "").partition(":")
    if level:
        tried["MEMLIMIT_LOG"] = level
    left_out = [key for key in NAMES_A_FILE if key in settings and (key != "MEMLIMIT_LOG" or colon)]
    return tried, left_out


def check_settings(findings, library, environment, ours=True, in_use=()):
    """`ours`: the settings are this user's own. Of anybody else's nothing is tried out that names a file; `in_use` are
    settings that evidently work."""
    settings = {key: value for key, value in environment.items() if key.startswith("MEMLIMIT")}
    if not settings:
        findings.add(NOTE, NO_SETTING)
        return
    tried, left_out = (settings, []) if ours else without_files(settings)
    if left_out:
        findings.add(NOTE, f"files are not looked for on behalf of another user or container: {', '.join(left_out)}")
    tried = {key: value for key, value in tried.items() if key not in in_use}
    try:
        status, said = probe(library, {"PATH": "/usr/bin:/bin", **tried})
    except OSError as error:
        findings.add(BAD, f"the settings cannot be checked: {error.strerror}")
        return
    for line in said.splitlines():
        findings.add(BAD if status else NOTE, re.sub(r"^memlimit\[\d+\]: ", "", line))
    if (strict := settings.get("MEMLIMIT_STRICT", "")) not in STRICT_WORDS:
        findings.add(BAD, f'MEMLIMIT_STRICT="{strict}" is none of on, off and check: write on, off or check')
    elif status == 0:
        findings.add(FINE, "settings: " + " ".join(f"{key}={value}" for key, value in sorted(settings.items())))


def check_told_settings(findings, process):
    """What a process says of itself that runs under the library and shows no setting in its environment. Programs that
    show a title in ps write it there and blank the rest (redis, nginx, PostgreSQL). Of bad settings the doctor hears
    elsewhere (checks_limit.settings)."""
    if process.address is None:
        if processes.wrote_over_environment(process.pid):
            findings.add(NOTE, "its settings cannot be seen: it wrote over its environment, and has no statistics socket")
        else:
            findings.add(NOTE, NO_SETTING)
        return
    try:
        rows = [line.split() for line in process.ask("config").splitlines()]
        limit = process.ask("limit").strip()
    except UserError as error:
        findings.add(NOTE, f"its settings cannot be seen: {error}")
        return
    told = {source: [] for source in ("environment", "invalid", "ignored")}
    for name, value, source, given in (row[:4] for row in rows if len(row) >= 4):
        if source in told:
            told[source].append(f"{name}={value if source == 'environment' else given}")
    if told["environment"]:
        findings.add(FINE, "settings: " + " ".join(sorted(told["environment"])))
    elif limit != "off":
        findings.add(FINE, f"no MEMLIMIT variable is set; a limit of {limit} bytes was set later")
    elif not any(told.values()):
        findings.add(NOTE, NO_SETTING)


def check_preload(findings, environment):
    """Whether the library comes first among those that replace malloc."""
    entries = re.split("[ :]+", environment.get("LD_PRELOAD", "").strip(" :"))
    try:
        system_wide = processes.read("/etc/ld.so.preload").split()
    except OSError:
        system_wide = []
    if any(map(processes.names_library, system_wide)):
        findings.add(NOTE, "/etc/ld.so.preload names libmemlimit.so: every program of this machine gets it")
    before = True
    for entry in entries + system_wide:
        if processes.names_library(entry):
            before = False
        elif found := ALLOCATORS.search(os.path.basename(entry)):
            if before and any(map(processes.names_library, entries)):
                findings.add(BAD, f"{entry} comes before libmemlimit.so: its malloc wins; put libmemlimit.so first")
            else:
                findings.add(NOTE, f"lib{found[1]} is preloaded too; libmemlimit.so must come before it to be used")


def is_privileged(path):
    mode = os.stat(path)
    if mode.st_mode & stat.S_ISUID and mode.st_uid != os.geteuid():
        return "set-user-ID"
    if mode.st_mode & stat.S_ISGID and mode.st_gid != os.getegid():
        return "set-group-ID"
    try:
        os.getxattr(path, "security.capability")
        return None if os.geteuid() == 0 else "capabilities on the file"
    except OSError:
        return None


def interpreter_of(path):
    """The program that a script's first line names, env and its options skipped."""
    with open(path, "rb") as file:
        first = file.readline(256)
    if not first.startswith(b"#!"):
        return None
    words = first[2:].decode(errors="replace").split()
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[0] if words else None


def as_called(path):
    """A program by the name that it is started by; where that leads to a file of another name (redis-server is one of
    several for redis-check-rdb), also by that."""
    path, file = os.path.abspath(path), os.path.realpath(path)
    same = os.path.basename(path) == os.path.basename(file)
    return file if same else f"{path} (which is {file})"


def check_program(findings, name, depth=0):
    path = shutil.which(name)
    if path is None:
        findings.add(BAD, f"{name}: command not found, or not executable")
        return
    path, shown = os.path.realpath(path), as_called(path)
    try:
        check_file(findings, path, shown)
    except elf.NotElf:
        interpreter = interpreter_of(path)
        if interpreter is None or depth > 4:
            findings.add(NOTE, f"{shown}: neither a program nor a script with a first line; the shell will run it")
        else:
            findings.add(FINE, f"{shown}: a script; what counts is {interpreter}")
            check_program(findings, interpreter, depth + 1)


def check_file(findings, file, path):
    """A program, called `path`. NotElf when it is something else."""
    if (privilege := is_privileged(file)) is not None:
        findings.add(
            BAD, f"{path}: {privilege}: for such programs the loader ignores LD_PRELOAD; start it from the account it runs as"
        )
    try:
        program = elf.read_program(file)
    except OSError as error:
        findings.add(BAD, f"{path}: {error.strerror}")
        return
    if program.interpreter is None:
        findings.add(BAD, f"{path}: statically linked: it has no loader that could put a library into it (for Go: GOMEMLIMIT)")
        return
    if "musl" in program.interpreter:
        library = find_library(processes.LIBRARY_FOR_MUSL)
        if library is None:
            findings.add(BAD, f"{path}: built for musl, and {processes.LIBRARY_FOR_MUSL} is not beside this command")
            return
        findings.add(FINE, f"{path}: built for musl, as {library} is")
    machine = {"x86_64": "x86-64", "i686": "i386", "riscv64": "riscv"}.get(platform.machine(), platform.machine())
    if program.machine != machine:
        findings.add(BAD, f"{path}: a {program.machine} program; libmemlimit.so is built for {machine}")
        return
    findings.add(FINE, f"{path}: dynamically linked")
    if "malloc" in program.exports:
        findings.add(
            BAD,
            f"{path}: has a malloc of its own built in, which the loader takes before any library's, "
            "so memlimit sees nothing of its heap: build it without",
        )
    for library in program.needed:
        if found := ALLOCATORS.search(library):
            if found[1] in ("asan", "tsan", "lsan"):
                findings.add(BAD, f"{path}: built with a sanitizer ({library}), which needs a malloc of its own")
            else:
                findings.add(NOTE, f"{path}: brings lib{found[1]}; its malloc calls go to libmemlimit.so instead")


def check_socket(findings, environment):
    setting = environment.get("MEMLIMIT_SOCKET", "")
    if setting == "off":
        findings.add(NOTE, "MEMLIMIT_SOCKET=off: no statistics socket, so ps, stat and top show no figures")
    elif setting in ("", "auto") and not any(
        os.access(place, os.W_OK) for place in ("/run/memlimit", "/run", environment.get("XDG_RUNTIME_DIR") or "/tmp", "/tmp")
    ):
        findings.add(NOTE, "no directory for the socket is writable: an abstract name is used, seen only in this network namespace")


def check_process(findings, pid):
    try:
        name = processes.name_of(pid)
        under = processes.is_under(pid)
        executable = os.readlink(f"/proc/{pid}/exe")
        ours = processes.is_like_us(pid)
        environment = processes.environment_of(pid)
        ours = ours and processes.is_like_us(pid)  # or the one it became in between wrote that
    except FileNotFoundError as error:
        raise UserError(f"no process {pid}, or a thread of the kernel") from error
    except (PermissionError, ProcessLookupError) as error:
        raise UserError(f"{pid}: not permitted to look into it; run this as its user or root") from error
    if under:
        address = processes.address_of(pid)
        findings.add(FINE, f"{pid} ({name}) runs under memlimit")
        if address is not None:
            findings.add(FINE, f"its socket is {address.replace(chr(0), '@')}")
    elif not processes.names_library(environment.get("LD_PRELOAD", "")):
        findings.add(BAD, f"{pid} ({name}) was started without LD_PRELOAD=.../libmemlimit.so; a running process cannot be changed")
    else:
        findings.add(BAD, f"{pid} ({name}) has LD_PRELOAD set, but the library is not in it")
    if not under:
        # Not by its path, where anything may be by now, and nothing of the kind when it is in a container.
        with contextlib.suppress(elf.NotElf):
            shown = executable if os.path.basename(executable).startswith(name) else f"{name} (which is {executable})"
            check_file(findings, f"/proc/{pid}/exe", shown)
    return environment, ours, processes.Process(pid, name, address) if under else None


def check_start(findings, environment, ours=True, process=None):
    """All but the program: what decides whether something with this environment is under the library."""
    library = check_library(findings)
    if process is not None and not any(key.startswith("MEMLIMIT") for key in environment):
        check_told_settings(findings, process)
    elif library is not None:
        # Whose socket is there holds its path: nobody else could have it.
        in_use = ("MEMLIMIT_SOCKET",) if process is not None and process.address is not None else ()
        check_settings(findings, library, environment, ours, in_use)
    check_preload(findings, environment)
    check_socket(findings, environment)
