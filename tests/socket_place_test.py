#!/usr/bin/env python3
"""MEMLIMIT_SOCKET names a path: who gets it among processes that start each other, and what is said when nobody can.

Usage: socket_place_test.py BUILD_ROOT.
"""

import contextlib
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
LIBRARY = str(BUILD / "preload" / "libmemlimit.so")
PYTHON = ["/usr/bin/python3", "-I", "-c"]
PATIENCE_S = 120  # for a machine that has much else to do; nothing is expected to take it

# Too large for a wrapper; ends with its standard input.
SERVER = """
import sys
held = [bytes(100_000) for _ in range(200)]
print("ready", flush=True)
sys.stdin.read()
"""

# Starts what its arguments say, under the same settings, waits for a line on its standard error, and tells it.
STARTER = """
import subprocess, sys
held = [bytes(100_000) for _ in range(200)]
print("ready", flush=True)
for line in sys.stdin:
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(sys.argv[1:], stdin=pipe, stdout=null, stderr=pipe, text=True) as helper:
        said = helper.stderr.readline()
        helper.stdin.close()
    print(helper.returncode, said.strip(), flush=True)
"""

# Runs what its arguments say, and waits for events after it has ended: who waits for children only is never asked.
WRAPPER = """
import select, subprocess, sys
subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL)
select.select([sys.stdin], [], [])
"""

# The parent ends, at once or when the child has been refused, and leaves its path behind. Nobody waits for it here.
DAEMON = """
import os, sys, time
held = [bytes(100_000) for _ in range(200)]
if os.fork():
    time.sleep(float(sys.argv[1]))
    os._exit(0)
held += [bytes(100_000) for _ in range(200)]
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def eventually(what, condition):
    """Returns what condition() gives once that is true; another process makes it so."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if value := condition():
                return value
        time.sleep(0.02)
    raise AssertionError(f"never happened: {what}")


def holder(path):
    """The pid of the process that answers there."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(path)
        client.sendall(b"status\n")
        answer = b""
        while part := client.recv(65536):
            answer += part
    return int(re.search(rb"^Pid:\s+(\d+)$", answer, re.M)[1])


class PlaceTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="memlimit-")
        self.addCleanup(directory.cleanup)
        self.path = f"{directory.name}/s.sock"

    def environment(self, **settings):
        return {
            "PATH": "/usr/bin:/bin", "LD_PRELOAD": LIBRARY, "MEMLIMIT": "256MiB", "MEMLIMIT_SOCKET": self.path, **settings,
        }

    def start(self, command, **settings):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment(**settings),
        )
        for stream in (process.stdin, process.stdout, process.stderr):
            self.addCleanup(stream.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def ready(self, process):
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def end(self, process):
        """What it has written to standard error."""
        _, errors = process.communicate(timeout=PATIENCE_S)
        return errors


class Families(PlaceTest):
    def test_a_wrapper_gives_way_to_the_program_behind_it(self):
        for wrapper in (["timeout", "1000"], ["sh", "-c", '"$@"; :', "sh"], ["nice"]):
            with self.subTest(wrapper[0]):
                process = self.ready(self.start([*wrapper, *PYTHON, SERVER]))
                children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                behind = int(children[0]) if children else process.pid
                eventually("the program has the path", lambda wanted=behind: holder(self.path) == wanted)
                self.assertEqual(self.end(process), "")

    def test_a_wrapper_has_its_path_back_when_the_program_has_ended(self):
        process = self.ready(self.start([*PYTHON, WRAPPER, *PYTHON, SERVER]))
        eventually("the wrapper has the path", lambda: holder(self.path) == process.pid)
        self.assertEqual(self.end(process), "")

    def test_small_helpers_are_silent_and_large_ones_tell(self):
        for helper, told in ((["sh", "-c", "ls /"], False), ([*PYTHON, SERVER], True)):
            with self.subTest(told):
                process = self.ready(self.start([*PYTHON, STARTER, *helper]))
                eventually("it has the path", lambda process=process: holder(self.path) == process.pid)
                process.stdin.write("start\n")
                process.stdin.flush()
                status, _, errors = process.stdout.readline().strip().partition(" ")
                self.assertEqual(status, "0")
                said = f"{self.path} is in use by process {process.pid} of the same family; put %p, the pid, in the name"
                self.assertEqual(said in errors, told, errors)
                self.assertEqual(holder(self.path), process.pid)
                self.assertEqual(self.end(process), "")

    def test_a_daemon_gets_the_path_that_its_parent_left(self):
        for seconds in ("0", "2"):
            with self.subTest(seconds):
                process = self.start([*PYTHON, DAEMON, seconds])
                pid = int(process.stdout.readline())
                eventually("the daemon has the path", lambda wanted=pid: holder(self.path) == wanted)
                self.end(process)


class Refusals(PlaceTest):
    def told(self, said, **settings):
        """Of a program that runs: one that waits for nothing and ends at once never needs its socket."""
        process = self.start(["sleep", "3600"], **settings)
        self.assertRegex(process.stderr.readline(), self.line(said))
        process.terminate()
        self.assertEqual(self.end(process), "")

    def refused(self, said, **settings):
        process = self.start(["true"], MEMLIMIT_STRICT="on", **settings)
        self.assertRegex(self.end(process), self.line(f"{said}. The program is not started"))
        self.assertEqual(process.returncode, 78)

    def line(self, said):
        return rf"\Amemlimit\[\d+\]: MEMLIMIT_SOCKET: {re.escape(said)}\n\Z"

    def test_a_place_that_cannot_be_made_is_a_line(self):
        missing = os.path.dirname(self.path) + "/no/such.sock"
        said = f"{missing}: its directory does not exist; make it first"
        self.told(said, MEMLIMIT_SOCKET=missing)
        self.told(said, MEMLIMIT_SOCKET=missing, MEMLIMIT_LOG="off")
        self.refused(said, MEMLIMIT_SOCKET=missing)

    def test_a_file_in_its_place_is_left_alone(self):
        pathlib.Path(self.path).write_text("precious")
        said = f"{self.path} exists and is not a dead socket of this user; it is left alone: remove it"
        self.told(said)
        self.refused(said)
        self.assertEqual(pathlib.Path(self.path).read_text(), "precious")

    def test_a_strangers_path_is_a_line(self):
        server = subprocess.Popen(
            [*PYTHON, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment(),
            start_new_session=True,
        )
        with server:
            self.ready(server)
            eventually("the stranger has the path", lambda: holder(self.path) == server.pid)
            said = f"{self.path} is in use by process {server.pid}; put %p, the pid, in the name"
            self.told(said)
            self.refused(said)
            self.assertEqual(holder(self.path), server.pid)
            server.stdin.close()


if __name__ == "__main__":
    unittest.main()
