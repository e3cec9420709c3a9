"""Asks many processes at once. One that does not answer costs all of them together one timeout, and shows up with
the reason; one that is known not to answer is asked again but not waited for.

Each process has a thread of its own here, for as long as it takes: whatever is slow about it (its socket, its files
below /proc) holds up nobody else.
"""

from __future__ import annotations  # Python 3.9

import contextlib
import dataclasses
import pwd
import resource
import threading
import time

from . import absent, client, container, processes
from .text import UserError

TIMEOUT_S = 2.0
STACK_BYTES = 512 * 1024  # of a thread that only asks
DESCRIPTORS = 16384


@dataclasses.dataclass
class Answer:
    """What one process said. `problem`: why it said nothing; None when it did, or has no socket because it is small."""

    process: processes.Process
    figures: dict
    user: str
    container: str
    problem: str | None = None
    silent: bool = False  # it has a socket and does not answer there


def user_name(pid):
    uid = processes.user_ids(pid)[1]
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def described(process, **what):
    return Answer(process, user=user_name(process.pid), container=container.of_process(process.pid), **what)


def ask_one(pid, timeout_s):
    """An Answer; None when the process has ended or is not ours to see."""
    process = processes.look(pid)
    if process is None:
        return None
    if process.address is None:
        why = processes.why_no_socket(pid)
        return described(process, figures={}, problem=None if why.startswith(absent.SMALL) else why)
    try:
        return described(process, figures=process.stat(timeout_s))
    except client.NoAnswer as error:
        return described(process, figures={}, problem=str(error).removeprefix(f"{process.pid} ({process.name}): "), silent=True)
    except processes.WrongPeer:
        return described(process, figures={}, problem="another process listens where its socket should be")
    except UserError:
        return None  # it ended in between, or says so


class Job:
    def __init__(self, pid, timeout_s):
        self.pid, self.timeout_s = pid, timeout_s
        self.done = threading.Event()
        self.answer = None
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            with contextlib.suppress(OSError, AttributeError):  # it ended, and its files with it
                self.answer = ask_one(self.pid, self.timeout_s)
        finally:
            self.done.set()


class Asker:
    """Remembers between rounds who did not answer."""

    def __init__(self, timeout_s=TIMEOUT_S):
        self.timeout_s = timeout_s
        self.pending = {}  # pid: Job
        self.silent = {}  # pid: (since, last answer)
        threading.stack_size(STACK_BYTES)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        enough = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        if soft != resource.RLIM_INFINITY and soft < enough:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))

    def round(self, pids):
        """The answers of these processes, after at most one timeout."""
        pids = list(pids)
        deadline = time.monotonic() + self.timeout_s
        for pid in pids:
            if pid not in self.pending:
                self.pending[pid] = Job(pid, self.timeout_s)
        for pid in pids:
            if pid not in self.silent:
                self.pending[pid].done.wait(max(deadline - time.monotonic(), 0))
        answers = [answer for pid in pids if (answer := self.take(pid)) is not None]
        # The threads of those that have ended come to their end by themselves.
        for gone in set(self.pending) - set(pids):
            del self.pending[gone]
        for gone in set(self.silent) - set(pids):
            del self.silent[gone]
        return answers

    def take(self, pid):
        job = self.pending[pid]
        if job.done.is_set():
            del self.pending[pid]
            if job.answer is not None and job.answer.silent:
                since = self.silent[pid][0] if pid in self.silent else time.monotonic() - self.timeout_s
                self.silent[pid] = (since, job.answer)
                return job.answer
            self.silent.pop(pid, None)
            return job.answer
        return self.unanswered(pid)

    def unanswered(self, pid):
        now = time.monotonic()
        since, before = self.silent.get(pid, (now - self.timeout_s, None))
        problem = f"no answer for {now - since:.0f} s{absent.why_silent(pid)}"
        try:
            answer = before or described(processes.Process(pid, processes.name_of(pid), None), figures={})
        except (OSError, AttributeError):
            return None
        answer = dataclasses.replace(answer, problem=problem, silent=True)
        self.silent[pid] = (since, answer)
        return answer


def everybody(which=(), asker=None):
    """Answers of the processes of these pids and names; of all, if none are given."""
    found = []
    for pid in processes.candidates():
        try:
            if not which or str(pid) in which or processes.name_of(pid) in which:
                found.append(pid)
        except OSError:
            continue
    return (asker or Asker()).round(found)
