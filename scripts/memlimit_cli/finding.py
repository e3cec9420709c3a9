"""One finding of the doctor, and what several checks ask of a snapshot."""

import dataclasses

from .text import format_size

# Cannot be asked; the limit does not do its work, or the kernel kills soon; will become one of these; facts; well.
UNKNOWN, CRITICAL, WARNING, NOTE, OK = "unknown", "critical", "warning", "note", "ok"
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Finding:
    severity: str
    about: str  # a word for programs
    text: str
    cause: str = ""
    remedy: str = ""


def limit_of(snapshot):
    return snapshot.stat.get("limit", 0)


def paced_of(snapshot):
    return snapshot.stat.get("paced", snapshot.stat.get("heap_alloc", 0))


def at_limit(snapshot):
    return limit_of(snapshot) > 0 and (paced_of(snapshot) >= 0.98 * limit_of(snapshot) or snapshot.stat.get("limiter_on", 0) > 0)


def share(part, whole):
    return f"{part / whole:.0%}" if whole > 0 else "-"


def enough_for(needed):
    """A limit with a tenth of room above what is needed, as `memlimit set` takes it."""
    return f"{-(-needed * 11 // (10 * MIB))}MiB"


def set_command(snapshot, needed):
    return f"memlimit set {snapshot.pid} {enough_for(needed)}"


def duration(us):
    return f"{us / 1e6:.3g} s" if us >= 1e6 else f"{us / 1000:.3g} ms"


__all__ = [
    "CRITICAL", "MIB", "NOTE", "OK", "UNKNOWN", "WARNING", "Finding", "at_limit", "duration", "enough_for", "format_size",
    "limit_of", "paced_of", "set_command", "share",
]
