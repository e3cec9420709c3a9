"""`memlimit events`: what happens in a process, a line each, with the time of day and in units for people.

The stream is `event=KIND time_ns=N key=value ...`; its first line is the state at that moment. The time is that of the
process's monotonic clock.
"""

import datetime
import json
import re
import sys
import time

from . import processes
from .text import UserError, format_size

# How bad it is, as lib/observe/events.inc has it; what is not in here is of a newer library, and shown as info.
LEVELS = {
    "round": "debug", "level": "info", "limit": "info", "limiter_on": "warn", "limiter_off": "info", "hook_overran": "warn",
    "hook_added": "info", "hook_removed": "info", "oversized": "info", "footprint": "info", "service_started": "debug",
    "service_failed": "error", "socket_opened": "info", "socket_failed": "warn", "socket_refused": "info", "forked": "debug",
    "events_lost": "info", "adapter_attached": "info", "adapter_ran": "debug", "adapter_left_out": "info", "room_low": "warn",
    "hook_returned": "warn",
}
RANKS = ("error", "warn", "info", "debug")
STATE = "state"
# Figures that are bytes. What a level changes from and to are words, which stay as they are.
BYTES = {
    "wanted", "freed", "usage", "limit", "from", "to", "needed", "bytes", "headroom", "footprint", "room", "container",
    "heap_alloc", "paced",
}
WIDTH = 16


class Clock:
    """From a process's monotonic clock to the time of day."""

    def __init__(self, pid=None):
        # Of a time namespace: how far its clocks are ahead of the machine's.
        ahead = monotonic_offset_ns(pid) - monotonic_offset_ns("self") if pid is not None else 0
        self.behind_ns = time.time_ns() - time.monotonic_ns() - ahead

    def seconds(self, monotonic_ns):
        return (monotonic_ns + self.behind_ns) / 1e9


def monotonic_offset_ns(pid):
    try:
        found = re.search(r"^monotonic +(-?\d+) +(-?\d+)", processes.read(f"/proc/{pid}/timens_offsets"), re.M)
    except OSError:
        return 0
    return int(found[1]) * 10**9 + int(found[2]) if found else 0


def parse(line):
    """(kind, time in nanoseconds or None, {key: word}) of a line of the stream."""
    words = line.split(" ")
    figures = dict(word.partition("=")[::2] for word in words if "=" in word)
    kind = figures.pop("event", words[0])
    stamp = figures.pop("time_ns", "")
    return kind, int(stamp) if stamp.isdigit() else None, figures


def number(value):
    return int(value) if re.fullmatch(r"-?\d+", value) else value


def readable(key, value):
    if not isinstance(number(value), int):
        return f"{key}={value}"
    if key.endswith("_ns"):
        ns = int(value)
        return f"{key.removesuffix('_ns')}=" + (f"{ns / 1e9:.3g} s" if ns >= 1e9 else f"{ns / 1e6:.3g} ms")
    return f"{key}={format_size(int(value))}" if key in BYTES else f"{key}={value}"


def time_of_day(seconds):
    return datetime.datetime.fromtimestamp(seconds).strftime("%H:%M:%S.%f")[:-3]


def shown(line, clock):
    kind, at_ns, figures = parse(line)
    seconds = clock.seconds(at_ns) if at_ns is not None else time.time()
    return " ".join([time_of_day(seconds), f"{kind:<{WIDTH}}", *(readable(*pair) for pair in figures.items())]).rstrip()


def as_json(line, clock, process):
    kind, at_ns, figures = parse(line)
    seconds = clock.seconds(at_ns) if at_ns is not None else time.time()
    stamp = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds")
    told = {"time": stamp.replace("+00:00", "Z"), "pid": process.pid, "name": process.name, "event": kind}
    return json.dumps(told | {key: number(value) for key, value in figures.items() if key not in told})


class Filter:
    """Which events are wanted: of these kinds, not of those, at least as bad as a level."""

    def __init__(self, only="", without="", level="debug"):
        self.only, self.without = names_of(only), names_of(without)
        self.rank = RANKS.index(level)

    def lets_through(self, line):
        kind = parse(line)[0]
        if kind in self.without or (self.only and kind not in self.only):
            return False
        return kind == STATE or RANKS.index(LEVELS.get(kind, "info")) <= self.rank


def names_of(text):
    names = {name.strip() for name in text.split(",") if name.strip()}
    for name in sorted(names - set(LEVELS) - {STATE}):
        raise UserError(f"{name} is no event: there are {', '.join([STATE, *LEVELS])}")
    return names


def events(which, wanted, form="text"):
    """`form`: text, raw (as the socket says it) or json (an object a line)."""
    process = processes.find(which)
    clock = Clock(process.pid)
    for line in process.events():
        if not wanted.lets_through(line):
            continue
        if form == "raw":
            print(line, flush=True)
        else:
            print(as_json(line, clock, process) if form == "json" else shown(line, clock), flush=True)
    if process.pid and not processes.exists(process.pid):
        print(f"memlimit: {process.pid} ({process.name}) has ended", file=sys.stderr)
    return 0
