"""`memlimit record`: a running process, or a command that it starts; then of what the command starts, what matters.

A wrapper (sh -c, timeout, tini, sudo) is small and has started the program that is meant. So the largest process below
the command is recorded that has a socket, and where that was a wrapper the next one is looked for.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time

from . import processes, recording
from .text import UserError, format_seconds

LOOK_S = 0.02  # between looks while nothing has a socket yet
LOOK_AGAIN_S = 0.3  # while a wrapper is recorded
WRAPPER_BYTES = 4 << 20  # of anonymous memory: what the library takes for small
WRAPPER_GRACE_S = 3.0  # for what a wrapper has started to come up


def parents():
    """{pid: parent} of all processes."""
    found = {}
    for pid in processes.all_pids():
        with contextlib.suppress(OSError, IndexError, ValueError):
            # The name in parentheses may have anything in it.
            found[pid] = int(processes.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    return found


def family(root):
    """A process and all below it that still belong to it."""
    of = parents()
    found, wave = [root], {root}
    while wave:
        wave = {pid for pid, parent in of.items() if parent in wave}
        found += sorted(wave)
    return found


def anonymous_bytes(pid):
    with contextlib.suppress(OSError):
        for line in processes.read(f"/proc/{pid}/status").split("\n"):
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def is_wrapper(pid):
    return anonymous_bytes(pid) < WRAPPER_BYTES and len(family(pid)) > 1


def largest_below(root):
    """The largest process of the family that has a socket; None while there is none."""
    found = []
    for pid in family(root):
        process = processes.look(pid)
        if process is not None and process.address is not None:
            found.append((anonymous_bytes(pid), process))
    return max(found, key=lambda pair: pair[0])[1] if found else None


class Chooser:
    """Which process of a command's family is recorded now."""

    def __init__(self, child):
        self.child = child
        self.began = time.monotonic()
        self.looked = 0.0

    def over(self):
        return self.child.poll() is not None

    def first(self, until):
        """Waits for one; None when the command ends before."""
        while not self.over() and not until():
            process = largest_below(self.child.pid)
            waited = time.monotonic() - self.began
            if process is not None and (waited > WRAPPER_GRACE_S or not is_wrapper(process.pid)):
                return process
            time.sleep(LOOK_S if waited < 1 else LOOK_AGAIN_S)
        return None

    def better(self, process):
        """What a wrapper that is recorded has started by now; None as long as there is nothing larger."""
        now = time.monotonic()
        if now - self.looked < LOOK_AGAIN_S:
            return None
        self.looked = now
        if not is_wrapper(process.pid):
            return None
        other = largest_below(self.child.pid)
        return other if other is not None and other.pid != process.pid else None


def record_family(out, child, until):
    chooser = Chooser(child)
    process = chooser.first(until)
    while process is not None and not until():
        out.begin(process)
        following = None
        with contextlib.suppress(UserError):  # it ended before the first answer
            while not until() and not chooser.over() and out.sample():
                if (following := chooser.better(process)) is not None:
                    break
                out.pause()
        # What has ended may have been one of several.
        process = following or chooser.first(until)


def record_command(out, until, command):
    """Runs it (memlimit-run, options, --, words) and records it from its first moment; returns its status."""
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="memlimit-record-") as directory:
        if environment.get("MEMLIMIT_SOCKET", "") in ("", "auto", "off"):
            # A program that stays small has a socket only where a place is named for it.
            environment["MEMLIMIT_SOCKET"] = f"{directory}/memlimit-%p.sock"
        with subprocess.Popen(command, env=environment) as child:
            # Ctrl-C is for the command, too: what it does about it is up to it.
            with contextlib.suppress(KeyboardInterrupt):
                record_family(out, child, until)
                out.end()
    status = child.returncode
    if out.samples == 0:
        print(
            "memlimit: no samples: the command was over at once, or does not run under memlimit; "
            f"`memlimit doctor -- {command[command.index('--') + 1]}` says why",
            file=sys.stderr,
        )
    return status if status >= 0 else 128 - status


def record(which, output, interval_s, seconds, command):
    began = time.monotonic()

    def until():
        return seconds is not None and time.monotonic() - began >= seconds

    try:
        with open(output, "w", encoding="utf-8") as file:
            words = command[command.index("--") + 1 :] if command else ()
            out = recording.Recording(file, interval_s, words)
            status = 0
            if command:
                status = record_command(out, until, command)
            else:
                process = processes.find(which)
                with contextlib.suppress(KeyboardInterrupt):  # the usual end
                    out.follow(process, until)
                    out.end()
    except OSError as error:
        raise UserError(f"{error.filename or output}: {error.strerror}") from error
    took = format_seconds(time.monotonic() - began)
    of = f" of {out.process.pid} ({out.process.name})" if out.process else ""
    ended = f"; the command ended with {status}" if command else ""
    print(f"memlimit: {out.samples} samples{of} in {took} in {output}{ended}", file=sys.stderr)
    return status
