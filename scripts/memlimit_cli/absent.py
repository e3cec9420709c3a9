"""Why a process under the library has no statistics socket or does not answer, as far as it can be seen from outside.

What the process says of itself (its environment, the path that it wanted) is looked at and shown; nothing there is
written to.
"""

import contextlib
import os
import re
import stat

from . import client

SERVICE_THREAD = "memlimit"
SMALL = "it is small (one appears when its heap passes 4 MiB or 1/16 of its limit)"


def has_service_thread(pid):
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8", errors="replace") as file:
            if file.read() == f"{SERVICE_THREAD}\n":
                return True
    return False


def expanded(setting, inner_pid):
    """The path that the library makes of MEMLIMIT_SOCKET."""
    values = {"%p": str(inner_pid), "%h": os.uname().nodename, "%%": "%"}
    return re.sub("%[ph%]", lambda match: values[match[0]], setting)


def may_write(pid, place):
    """Whether the process's user may make files there, going by owner and mode."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    user, group = int(fields["Uid"].split()[1]), int(fields["Gid"].split()[1])
    if user == 0:
        return True
    if user == place.st_uid:
        return bool(place.st_mode & stat.S_IWUSR)
    if place.st_gid in (group, *map(int, fields.get("Groups", "").split())):
        return bool(place.st_mode & stat.S_IWGRP)
    return bool(place.st_mode & stat.S_IWOTH)


def way_out(setting):
    """What makes two processes' paths differ that this setting makes equal."""
    if "%p" not in setting and not setting.endswith("/"):
        return "put %p, the pid, in the name"
    if "%h" not in setting:
        return "put %h, the host name, in it: the pid is the same in both containers"
    return "host name and pid are the same in both containers: give each a host name or a directory of its own"


def holder_of(path, pid, setting):
    """Who listens at a path that the process wanted: only asked on behalf of this very user."""
    if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
        return "another process has it"
    try:
        with client.connect(path) as sock:
            holder = client.peer(sock)[0]
            who = f"process {holder}" if holder else "a process of another container"
            return f"{who} has it: {way_out(setting)}"
    except OSError:
        return "nobody listens there any more"


def fault_of(path, pid, setting):
    """What keeps the process from listening at an absolute path, which is one of its own root."""
    root = f"/proc/{pid}/root"
    inside = root + path
    directory = os.path.dirname(path.rstrip("/")) or "/"
    if not path.endswith("/") and os.path.lexists(inside) and not os.path.isdir(inside):
        if stat.S_ISSOCK(os.lstat(inside).st_mode):
            return holder_of(inside, pid, setting)
        return "something else than a socket is there: remove it"
    if os.path.isdir(inside):
        directory = path
    if not os.path.isdir(root + directory):
        return f"the directory {directory} does not exist: make it first"
    if os.statvfs(root + directory).f_flag & os.ST_RDONLY:
        return f"{directory} is on a read-only file system: name a directory on a volume"
    if not may_write(pid, os.stat(root + directory)):
        return f"its user may not write in {directory}"
    return "it is not there: not made yet, or removed since"


def why(pid, environment, inner_pid):
    """The reason, to follow 'has no statistics socket: '. `inner_pid`: what the process takes for its pid."""
    setting = environment.get("MEMLIMIT_SOCKET", "")
    if setting == "off":
        return "MEMLIMIT_SOCKET=off"
    try:
        if "/" not in setting:
            return SMALL if not has_service_thread(pid) else "none of the usual places could be used, or it has just come up"
        path = expanded(setting, inner_pid)
        if not path.startswith("/"):
            path = os.path.join(os.readlink(f"/proc/{pid}/cwd"), path)
        return f"MEMLIMIT_SOCKET={setting}: {fault_of(path, pid, setting)}"
    except OSError:
        return f"{SMALL}, or MEMLIMIT_SOCKET names a place that cannot be used"


def is_frozen(pid):
    """Whether its cgroup is frozen (docker pause), where that can be seen."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers == "":
                places = (f"/sys/fs/cgroup{path}/cgroup.events", f"/sys/fs/cgroup/unified{path}/cgroup.events")
            elif controllers == "freezer":
                places = (f"/sys/fs/cgroup/freezer{path}/freezer.state",)
            else:
                continue
            for place in places:
                with contextlib.suppress(OSError), open(place, encoding="ascii", errors="replace") as state:
                    if re.search("^(frozen 1|FROZEN)$", state.read(), re.M):
                        return True
    return False


def why_silent(pid):
    """Why a process that listens does not answer, to follow the fact; empty when nothing is to be seen."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state = file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ": it has ended"
    if is_frozen(pid):
        return ": its container is paused (its cgroup is frozen)"
    return {
        "T": ": it is stopped (kill -CONT lets it go on)",
        "t": ": it is stopped by a debugger",
        "D": ": it waits in the kernel (state D), for a disk as a rule",
        "Z": ": it has ended, and its parent has not taken notice",
    }.get(state, "")
