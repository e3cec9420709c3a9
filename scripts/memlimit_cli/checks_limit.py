"""The limit itself: whether the process can be asked, whether the limit holds, and what is left around it. Pure."""

from .finding import (
    CRITICAL, MIB, NOTE, OK, UNKNOWN, WARNING, Finding, at_limit, format_size, limit_of, paced_of, set_command, share,
)

ACCOUNTS = {
    "heap": "live blocks, and up to 4 % of the limit for what the allocator cannot give back",
    "rss": "the larger of live blocks and anonymous memory (RSS)",
    "cgroup": "what all processes of its cgroup hold",
}
# Of a container's memory. The kernel reclaims files first, so that it kills only close to the end.
ROOM_CRITICAL, ROOM_LOW = 0.04, 0.10
HOST_CRITICAL, HOST_LOW = 0.03, 0.08
LIMIT_TOO_NEAR = 0.95  # of the container's: what is neither heap nor paced has no place


def answers(s):
    """Whether it tells anything."""
    if s.small:
        return [Finding(OK, "socket", s.problem)]
    if s.problem:
        rss = s.kernel.get("RssAnon")
        seen = f"the kernel counts {format_size(rss)} of anonymous memory" if rss is not None else ""
        remedy = "look at its state: cat /proc/{0}/stack /proc/{0}/wchan; gdb -p {0} shows where its threads are".format(s.pid)
        if "SIGCONT" in s.problem or "stopped" in s.problem:
            remedy = f"kill -CONT {s.pid}, if nobody wants it stopped"
        elif "paused" in s.problem:
            remedy = "unpause the container (docker unpause, or whatever paused it)"
        elif "no statistics socket" in s.problem:
            remedy = "MEMLIMIT_SOCKET names a place that works, at the next start"
        return [Finding(UNKNOWN, "socket", f"cannot be asked: {s.problem}", seen, remedy)]
    return []


def settings(s):
    found = []
    for row in s.config.values():
        if row["source"] == "invalid":
            found.append(Finding(
                CRITICAL, "settings", f"{row['name']}={row['given']} is a bad setting, and not in force",
                "the value was refused at the start, with a line on standard error",
                "correct it: `memlimit-run` refuses to start with a bad one; `memlimit set` gives a running process a limit",
            ))
        elif row["source"] == "ignored":
            found.append(Finding(NOTE, "settings", f"{row['name']}={row['given']} is ignored in a set-user-ID program"))
    return found


def let_go(s):
    """The limiter: on, or was."""
    needed, limit, told = s.stat.get("limiter_needed", 0), limit_of(s), str(s.status.get("Limiter", ""))
    if not s.stat.get("limiter_on"):
        episodes = s.stat.get("limiter_episodes", 0)
        if not episodes:
            return []
        return [Finding(
            WARNING, "limiter", f"the limit was let go {episodes} time{'s' * (episodes != 1)}, and is held again",
            f"{s.stat.get('limiter_skipped', 0)} rounds were left out; {format_size(needed)} remained after reclaim the last time",
            f"if it comes back: {set_command(s, max(needed, limit))}",
        )]
    if "CPU" in told:
        spent = s.stat.get("reclaim_cpu_ns", 0) / 1e9
        return [Finding(
            CRITICAL, "limiter", f"the limit of {format_size(limit)} is let go: reclaim took more than half of the CPU time",
            f"the program makes garbage or fills caches as fast as hooks free them ({spent:.1f} s of reclaim so far); usage may grow now",
            f"{set_command(s, max(needed, paced_of(s), limit))}; or make it allocate less, see the hooks below for who takes the time",
        )]
    needed = needed or paced_of(s)
    return [Finding(
        CRITICAL, "limiter", f"the limit of {format_size(limit)} is let go: not enough can be given back",
        f"{format_size(needed)} remained after all hooks had run: that much is in use, or no hook can free it",
        f"{set_command(s, needed)} makes it hold; else free more: what holds the memory stands below",
    )]


def made_of(s):
    """What the paced number consists of, in words."""
    heap, rss, group = (s.stat.get(key, 0) for key in ("heap_alloc", "rss_anon", "cgroup_used"))
    charged = s.stat.get("charged", 0)
    account = str(s.status.get("Account", "heap"))
    parts = [f"heap {format_size(heap)}"]
    if charged:
        parts.append(f"charged by hand {format_size(charged)}")
    parts.append(f"RSS {format_size(rss)}")
    if group:
        parts.append(f"its cgroup {format_size(group)}")
    return f"account {account} ({ACCOUNTS.get(account, 'unknown')}): {', '.join(parts)}"


def who_exceeds(s):
    """A sentence on which of the figures it is, where that is not the heap."""
    heap, rss, group = (s.stat.get(key, 0) for key in ("heap_alloc", "rss_anon", "cgroup_used"))
    paced = paced_of(s)
    account = s.status.get("Account")
    if account == "cgroup" and group and heap < 0.5 * paced:
        return ". Most of it is of other processes of the cgroup: `memlimit ps` shows which"
    if account == "rss" and rss > heap + max(heap // 4, 16 * MIB):
        return ". The footprint exceeds the heap: memory that a runtime or the program maps itself, stacks, or free pages"
    return ""


def against_limit(s):
    limit, paced = limit_of(s), paced_of(s)
    if not s.stat:
        return []
    if limit <= 0:
        if "invalid" in str(s.status.get("MemLimit", "")):
            return []  # settings() has it
        return [Finding(NOTE, "limit", "no limit is set: memlimit only counts", made_of(s), f"memlimit set {s.pid} 512MiB, or 80%")]
    where = f"{format_size(paced)} of {format_size(limit)} ({share(paced, limit)}) are in use"
    origin = s.status.get("LimitFrom")
    by = f"; the limit comes from {origin}" if origin else ""
    cause = f"{made_of(s)}{by}{who_exceeds(s)}"
    remedy = f"{set_command(s, paced)}, or free some of what holds the memory (below)"
    if paced > limit:
        # Soft: a little over for a moment is what it is made for.
        severity = CRITICAL if s.stat.get("limiter_on") or paced > 1.1 * limit else WARNING
        return [Finding(severity, "limit", f"over its limit: {where}", cause, remedy)]
    if at_limit(s):
        return [Finding(WARNING, "limit", f"at its limit: {where}", cause, remedy)]
    return [Finding(OK, "limit", f"below its limit: {where}", cause)]


def room(s):
    """The container's memory, and the machine's."""
    found = []
    if s.room is not None:
        found += container_room(s)
    elif s.host_total:
        left = f"{format_size(s.host_available)} of {format_size(s.host_total)} are available on this machine"
        part = s.host_available / s.host_total
        if part < HOST_LOW:
            found.append(Finding(
                CRITICAL if part < HOST_CRITICAL else WARNING, "room", f"the machine is nearly full: {left}",
                "when it is full the kernel kills a process, which may be this one", "end or limit what holds most: `memlimit ps`, ps --sort=-rss",
            ))
        else:
            found.append(Finding(OK, "room", f"no cgroup limit; {left}"))
    return found


def container_room(s):
    room_, limit = s.room, limit_of(s)
    left = room_.limit - room_.used
    told = f"{format_size(left)} of {format_size(room_.limit)} are left in its cgroup"
    found = []
    if left < ROOM_LOW * room_.limit:
        found.append(Finding(
            CRITICAL if left < ROOM_CRITICAL * room_.limit else WARNING, "room", f"the container is nearly full: {told}",
            "when they are used up the kernel kills a process of it", "raise the container's limit, or lower memlimit's, so that reclaim begins earlier",
        ))
    else:
        found.append(Finding(OK, "room", told))
    if limit > room_.limit:
        found.append(Finding(
            CRITICAL, "room", f"its limit of {format_size(limit)} is above the container's {format_size(room_.limit)}: the kernel kills first",
            "a size does not follow the container; a percentage does", f"memlimit set {s.pid} 80%, and MEMLIMIT=80% for the next start",
        ))
    elif limit > LIMIT_TOO_NEAR * room_.limit:
        found.append(Finding(
            WARNING, "room", f"its limit of {format_size(limit)} leaves {format_size(room_.limit - limit)} of the container's memory",
            "stacks, page tables and files that are mapped count there and not here", f"memlimit set {s.pid} 80%",
        ))
    if room_.kills:
        found.append(Finding(
            WARNING, "room", f"the kernel has killed {room_.kills} process{'es' * (room_.kills != 1)} of its cgroup for memory",
            f"{room_.path} was full", "leave more room between memlimit's limit and the container's",
        ))
    return found
