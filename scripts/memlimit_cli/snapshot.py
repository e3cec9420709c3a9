"""Everything that can be known of a process at one moment, for the doctor and for its page in top.

Two sources: what it tells on its socket, and what the kernel shows of it and of its cgroup. Whatever cannot be read is
missing here, and no error: the findings go by what is there.
"""

from __future__ import annotations  # Python 3.9

import contextlib
import dataclasses
import os
import re
import time

from . import absent, asking, client, container, formats, heap, processes, sites, symbols
from .text import UserError, printable

# What is asked of a process, in this order. A file that its library does not have yet stays out of `files`.
FILES = ("stat", "status", "hooks", "heap", "config")
TIMEOUT_S = 3.0  # for all of them together
MAX_CLASSES = 12
MAX_SITES = 3
# How the file that brings a runtime into a process is called, and the adapter's name for it.
RUNTIMES = (
    (r"libpython3[\d.]*\.so|python3[\d.]*", "cpython"), (r"libnode\.so.*|node|nodejs", "v8"), (r"libruby[\d.-]*\.so.*|ruby[\d.]*", "ruby"),
    (r"libjvm\.so", "jvm"), (r"libphp\S*\.so|php(-fpm|-cgi)?[\d.]*", "php"), (r"beam\.smp", "beam"),
    (r"libsqlite3\.so.*", "sqlite"), (r"liblua\S*\.so.*|lua(jit)?[\d.-]*", "lua"), (r"libcoreclr\.so", "dotnet"),
)


@dataclasses.dataclass(frozen=True)
class Room:
    """The tightest memory limit among a process's cgroups."""

    path: str
    limit: int
    used: int  # working set: usage less inactive file pages
    kills: int = 0  # by the kernel, for memory, since the cgroup exists


@dataclasses.dataclass
class Snapshot:
    pid: int
    name: str
    user: str = "-"
    container: str = "-"
    problem: str | None = None  # why it tells nothing
    small: bool = False  # it has no socket since it needs none
    files: dict = dataclasses.field(default_factory=dict)  # name: parsed, see formats.PARSERS
    kernel: dict = dataclasses.field(default_factory=dict)  # of /proc/PID/status: bytes, and State
    room: Room | None = None
    host_total: int = 0
    host_available: int = 0
    runtimes: tuple = ()  # as its mapped files tell
    thread_names: dict = dataclasses.field(default_factory=dict)  # tid, as the process numbers them: name
    sites: tuple = ()  # of the heap profile the largest: (live bytes, functions from the innermost out)

    @property
    def stat(self):
        return self.files.get("stat", {})

    @property
    def status(self):
        return self.files.get("status", {})

    @property
    def hooks(self):
        return self.files.get("hooks", [])

    @property
    def config(self):
        return {row["name"]: row for row in self.files.get("config", [])}

    def largest_classes(self, most=MAX_CLASSES):
        """Size classes by what they hold, the largest first."""
        rows = [row for row in self.files.get("heap", {}).get("classes", []) if row.get("live_bytes")]
        return sorted(rows, key=lambda row: -row["live_bytes"])[:most]

    def largest_threads(self, most=MAX_CLASSES):
        rows = [dict(row) for row in self.files.get("heap", {}).get("threads", []) if row.get("held_bytes")]
        for row in rows:
            number = str(row["thread"]).removeprefix("thread-")
            row["name"] = self.thread_names.get(int(number), "-") if number.isdigit() else "-"
        return sorted(rows, key=lambda row: -(row.get("live_bytes") or 0))[:most]


def kernel_figures(pid):
    figures = {}
    for line in processes.read(f"/proc/{pid}/status").split("\n"):
        key, _, value = line.partition(":\t")
        if found := re.fullmatch(r" *(\d+) kB", value):
            figures[key] = int(found[1]) * 1024
        elif key in ("State", "Threads"):
            figures[key] = value.strip()
    return figures


def first_number(*paths):
    """Of the first file that is there; None for `max` and for version 1's way to say so."""
    for path in paths:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            value = int(file.read())
            return value if value < 1 << 60 else None
    return None


def figure_of(path, key):
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def room_at(directory):
    limit = first_number(f"{directory}/memory.max", f"{directory}/memory.limit_in_bytes")
    used = first_number(f"{directory}/memory.current", f"{directory}/memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    version_1 = os.path.exists(f"{directory}/memory.limit_in_bytes")
    inactive = figure_of(f"{directory}/memory.stat", "total_inactive_file" if version_1 else "inactive_file")
    kills = figure_of(f"{directory}/memory.oom_control" if version_1 else f"{directory}/memory.events", "oom_kill")
    return Room(directory, limit, max(used - inactive, 0), kills)


def room_of(pid, root="/sys/fs/cgroup"):
    """Of the tightest cgroup above a process that is seen from here; None where none has a limit."""
    path = container.path_of(processes.read(f"/proc/{pid}/cgroup"))
    found = None
    for base in (f"{root}/memory", root):
        if not os.path.exists(f"{base}/cgroup.procs"):
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        while True:
            room = room_at("/".join([base, *parts]))
            if room is not None and (found is None or room.limit - room.used < found.limit - found.used):
                found = room
            if not parts:
                break
            parts.pop()
        break
    return found


def host_memory():
    figures = dict(re.findall(r"^(\w+): +(\d+) kB", processes.read("/proc/meminfo"), re.M))
    return int(figures.get("MemTotal", 0)) * 1024, int(figures.get("MemAvailable", 0)) * 1024


def runtimes_of(pid):
    names = {os.path.basename(line.split(maxsplit=5)[5]) for line in processes.read(f"/proc/{pid}/maps").split("\n") if "/" in line}
    return tuple(runtime for pattern, runtime in RUNTIMES if any(re.fullmatch(pattern, name) for name in names))


def thread_names_of(pid):
    names = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            inner = re.search(r"^NSpid:.*?(\d+)$", processes.read(f"/proc/{pid}/task/{task}/status"), re.M)
            name = processes.read(f"/proc/{pid}/task/{task}/comm").removesuffix("\n")
            names[int(inner[1] if inner else task)] = printable(name)
    return names


def ask(process, snapshot, timeout_s):
    deadline = time.monotonic() + timeout_s
    for file in FILES:
        try:
            text = process.ask(file, max(deadline - time.monotonic(), 0.1))
        except UserError as error:
            # One that it does not have is no reason not to ask for the next; who does not answer is.
            if isinstance(error, (client.NoAnswer, processes.WrongPeer)) or not snapshot.files:
                snapshot.problem = str(error).removeprefix(f"{process.pid} ({process.name}): ")
                return
            continue
        snapshot.files[file] = formats.parse(file, text)


def sites_of(process):
    """Without addr2line, which may take seconds for a large program."""
    profile = sites.parse(process.ask("profile"))
    largest = [site for site in heap.ordered(profile) if site.live_bytes > 0][:MAX_SITES]
    names = symbols.Symbols(profile, process.pid, lines=False)
    names.resolve(address for site in largest for address in site.frames)
    return tuple((site.live_bytes, tuple(heap.spell_short(names, site))) for site in largest)


def take(pid, timeout_s=TIMEOUT_S):
    """UserError when there is no such process, or it may not be looked at, or is not under the library."""
    process = processes.find_pid(pid)
    snapshot = Snapshot(pid, process.name)
    for key, read in (
        ("user", lambda: asking.user_name(pid)), ("container", lambda: container.of_process(pid)),
        ("kernel", lambda: kernel_figures(pid)), ("room", lambda: room_of(pid)),
        ("runtimes", lambda: runtimes_of(pid)), ("thread_names", lambda: thread_names_of(pid)),
    ):
        with contextlib.suppress(OSError, AttributeError):
            setattr(snapshot, key, read())
    with contextlib.suppress(OSError):
        snapshot.host_total, snapshot.host_available = host_memory()
    if process.address is None:
        why = processes.why_no_socket(pid)
        snapshot.small = why.startswith(absent.SMALL)
        snapshot.problem = f"it has no statistics socket: {why}"
    else:
        ask(process, snapshot, timeout_s)
        if snapshot.stat.get("profile_sites", 0) > 0:
            # Addresses are shown to its user and root alone.
            with contextlib.suppress(UserError):
                snapshot.sites = sites_of(process)
    return snapshot
