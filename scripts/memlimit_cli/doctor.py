"""`memlimit doctor`: why a program would not be under the library, and why a running process is at its limit.

The first is of the moment before: startup.py. The second is a snapshot of the process, looked at by the checks that
findings.py lists. This file puts both together, words and exit status.
"""

import os
import shutil
import sys

from . import findings, processes, snapshot, startup
from .finding import CRITICAL, NOTE, OK, Finding
from .text import UserError, print_json, wrap

# What startup.py says, in the doctor's words. A process that is not under the library at all has no limit.
SEVERITIES = {startup.BAD: CRITICAL, startup.FINE: OK, startup.NOTE: NOTE}
LABEL_WIDTH = 10
NARROWEST = 40


class CannotLook(UserError):
    """The process is not there, or not ours to look at."""

    status = findings.STATUS[findings.UNKNOWN]


def doctor(which, command, as_json=False):
    """The exit status. Of a process (its pid, or a name under the library): 0 fine, 1 warnings, 2 critical, 3 it could not be asked; else 1 for a problem."""
    if which is not None:
        return of_process(which, as_json)
    found = startup.Findings()
    startup.check_start(found, dict(os.environ))
    if command:
        startup.check_program(found, command[0])
    if as_json:
        print_json({
            "status": 1 if found.bad else 0,
            "findings": [{"severity": SEVERITIES[kind], "about": "start", "text": text} for kind, text in found.found],
        })
        return 1 if found.bad else 0
    for kind, text in found.found:
        print(f"{kind}  {text}")
    if found.bad:
        print(f"{found.bad} problem{'s' if found.bad != 1 else ''}", file=sys.stderr)
    return 1 if found.bad else 0


def of_process(which, as_json):
    try:
        taken, found = look(int(which) if str(which).isdigit() else processes.find(which).pid)
    except UserError as error:
        raise CannotLook(str(error)) from error
    worst = findings.verdict(found)
    if as_json:
        print_json(to_json(taken, found))
    else:
        report(taken, found)
    return findings.STATUS[worst]


def look(pid):
    """The snapshot and everything that is found, the worst first."""
    before = startup.Findings()
    environment, ours, process = startup.check_process(before, pid)
    startup.check_start(before, environment, ours, process)
    started = [Finding(SEVERITIES[kind], "start", text) for kind, text in before.found]
    if process is None:
        return snapshot.Snapshot(pid, processes.name_of(pid)), findings.worst_first(started)
    taken = snapshot.take(pid)
    told = findings.examine(taken)
    if any(finding.severity == CRITICAL for finding in started):
        # The library has said it of the same settings, and in more words.
        told = [finding for finding in told if finding.about != "settings"]
    return taken, findings.worst_first([*told, *started])


def to_json(taken, found):
    return {
        "pid": taken.pid,
        "name": taken.name,
        "user": taken.user,
        "container": None if taken.container == "-" else taken.container,
        "verdict": findings.verdict(found),
        "status": findings.STATUS[findings.verdict(found)],
        "findings": [vars(finding) for finding in found],
        "figures": taken.stat,
    }


def head_of(taken, found):
    where = "" if taken.container == "-" else f", {taken.container}"
    who = f"{taken.pid} {taken.name}" + (f" ({taken.user}{where})" if taken.user != "-" else "")
    counts = [
        f"{number} {severity}{'s' if severity == findings.WARNING and number != 1 else ''}"
        for severity in findings.ORDER[:3]
        if (number := sum(finding.severity == severity for finding in found))
    ]
    return f"{who}: {', '.join(counts) or 'fine'}"


def report(taken, found):
    """Broken for a terminal; whole lines where something reads that looks for words in them."""
    width = max(shutil.get_terminal_size().columns, NARROWEST) if sys.stdout.isatty() else None
    print(head_of(taken, found))
    loud = True
    for finding in found:
        if finding.severity in (NOTE, OK) and loud:
            loud = False
            print()
        label = finding.severity.upper() if loud else finding.severity
        if loud:
            print()
        say(f"{label:<{LABEL_WIDTH}}", finding.text, width)
        for name, text in (("cause", finding.cause), ("remedy", finding.remedy)):
            # What is well needs no reason, and no remedy.
            if text and finding.severity != OK:
                say(f"{'':<{LABEL_WIDTH}}{name}: ", text, width)


def say(label, text, width):
    room = None if width is None else max(width - len(label) - 1, NARROWEST - len(label))
    lines = [text] if room is None else list(wrap(text, room))
    for number, line in enumerate(lines):
        print(f"{label if number == 0 else ' ' * len(label)}{line}")
