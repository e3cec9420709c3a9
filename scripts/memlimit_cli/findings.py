"""What the doctor finds out about a running process: a list of findings, the worst first.

Each check is a function from a snapshot.Snapshot to findings. It is pure: it asks nobody and reads nothing but the
snapshot, so that a test can hand it any state. A further one is a function in a file checks_*.py, and a
place in CHECKS below. What it needs of the process comes in through snapshot.FILES.
"""

from . import checks_hooks, checks_limit, checks_memory
from .finding import CRITICAL, OK, NOTE, UNKNOWN, WARNING

# In the order of the questions that somebody asks who was woken up; of equal severity the first stands first.
CHECKS = (
    checks_limit.answers,
    checks_limit.settings,
    checks_limit.let_go,
    checks_limit.against_limit,
    checks_limit.room,
    checks_hooks.running,
    checks_hooks.overruns,
    checks_hooks.missing,
    checks_hooks.fruitless,
    checks_hooks.slow,
    checks_hooks.runtimes,
    checks_memory.idle,
    checks_memory.cached,
    checks_memory.swapped,
    checks_memory.mapped,
    checks_memory.cost,
    checks_memory.sites,
    checks_memory.holders,
    checks_memory.threads,
    checks_hooks.useful,
)
ORDER = (UNKNOWN, CRITICAL, WARNING, NOTE, OK)
# The command's exit status.
STATUS = {UNKNOWN: 3, CRITICAL: 2, WARNING: 1, NOTE: 0, OK: 0}


def worst_first(found):
    return sorted(found, key=lambda finding: ORDER.index(finding.severity))


def examine(snapshot):
    return worst_first([finding for check in CHECKS for finding in check(snapshot)])


def verdict(found):
    """The severity of the worst."""
    return min((finding.severity for finding in found), key=ORDER.index, default=OK)
