#!/usr/bin/env python3
"""The log of a real process whose log cannot be written: closed standard error, full disk, no reader, fork.

Usage: log_test.py BUILD_ROOT.
"""

import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
RUN = str(BUILD / "scripts" / "memlimit-run")
PATIENCE_S = 120  # for a machine that has much else to do; nothing is expected to take it

# Passes its limit, so that there is something to log; then says so, and ends with its standard input. It waits for that as
# servers do: a parent of fork in CPython 3.12 and later has no service thread while it waits in read().
PROGRAM = """
import os, select, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in a program in C: a signal of ours would end it
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
held = [bytes(100_000) for _ in range(600)]
print("full", flush=True)
if "fork" in sys.argv:
    child = os.fork()
    held += [bytes(100_000) for _ in range(300)]
    if child:
        print(child, flush=True)
select.select([sys.stdin], [], [])
sys.stdin.read()
"""


class LogTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="memlimit-")
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def start(self, log, *arguments, report="1", limit="32MiB", **options):
        process = subprocess.Popen(
            [RUN, "-l", limit, "--log", log, "--report", report, "--socket", "off"]
            + ["--", "/usr/bin/python3", "-I", "-c", PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.assertEqual(process.stdout.readline(), "full\n")
        return process

    def end(self, process):
        process.stdin.close()
        self.assertEqual(process.stdout.read(), "")
        self.assertEqual(process.wait(), 0)

    def eventually(self, path, pattern):
        """The file's lines, once one of them matches."""
        deadline = time.monotonic() + PATIENCE_S
        lines = []
        while time.monotonic() < deadline:
            lines = path.read_text().splitlines() if path.exists() else []
            if any(re.search(pattern, line) for line in lines):
                return lines
            time.sleep(0.02)
        raise AssertionError(f"no line matches {pattern}:\n" + "\n".join(lines))

    def test_reports_come_at_their_interval(self):
        path = self.directory / "log"
        process = self.start(f"error:{path}")
        line = r" info: heap [\d.]+ [KMG]iB / limit 32 MiB, level over, rss [\d.]+ MiB, rounds \d+$"
        self.eventually(path, line)
        self.end(process)
        self.assertEqual(path.stat().st_mode & 0o007, 0)

    def test_a_full_disk_is_the_logs_problem_alone(self):
        self.end(self.start("debug:/dev/full", stderr=subprocess.DEVNULL))

    def test_a_file_at_its_size_limit_kills_nobody(self):
        path = self.directory / "log"
        process = self.start(
            f"debug:{path}",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)),
            stderr=subprocess.DEVNULL,
        )
        self.end(process)
        self.assertLessEqual(path.stat().st_size, 300)

    def test_closed_standard_error_and_what_takes_its_number(self):
        taken = self.directory / "data"
        program = f"import os\nassert os.open({str(taken)!r}, os.O_CREAT | os.O_RDWR) == 2\n" + PROGRAM
        process = subprocess.run(
            [RUN, "-l", "32MiB", "--log", "debug", "--report", "1", "--socket", "off"]
            + ["--", "/usr/bin/python3", "-I", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: os.close(2),
            text=True,
            check=False,
        )
        self.assertEqual((process.returncode, process.stdout), (0, "full\n"))
        self.assertEqual(taken.read_bytes(), b"")

    def test_standard_error_that_nobody_reads(self):
        # A pipe that is full from the start, and one whose reader has gone.
        for reads in (True, False):
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            try:
                while os.write(writer, b"x" * 65536):
                    pass
            except BlockingIOError:
                pass
            os.set_blocking(writer, True)
            if not reads:
                os.close(reader)
            self.end(self.start("debug", stderr=writer))
            os.close(writer)
            if reads:
                os.close(reader)

    def test_a_child_of_fork_logs_under_its_own_number(self):
        path = self.directory / "log"
        process = self.start(f"debug:{path}", "fork")
        child = int(process.stdout.readline())
        for pid in (process.pid, child):
            self.eventually(path, rf" memlimit\[{pid}\] info: heap ")
        lines = self.eventually(path, rf" memlimit\[{child}\] debug: event=forked .* parent={process.pid} pid={child}$")
        whole = re.compile(rf"^\d{{4}}-\d\d-\d\dT[\d:.]+Z memlimit\[({process.pid}|{child})\] (debug|info|warn|error): \S")
        self.assertEqual([line for line in lines if not whole.match(line)], [])
        self.end(process)

    def run_out(self, *options, log="warn"):
        """What is on standard error after more was allocated than any limit holds, in a runtime that has nothing to give."""
        program = "held = [bytes(100_000) for _ in range(3000)]"
        return subprocess.run(
            [RUN, "-l", "32MiB", "--log", log, "--socket", "off", *options, "/usr/bin/python3", "-I", "-c", program],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        ).stderr

    def test_a_limit_that_cannot_be_held_is_a_sentence(self):
        line = re.compile(
            r"\Amemlimit\[\d+\]: the limit cannot be held: not enough can be given back. ([\d.]+) MiB remain after reclaim, "
            r"the limit is 32 MiB: it would hold from \1 MiB on(.*)\n\Z"
        )
        named = ". Not asked to reclaim: cpython (MEMLIMIT_ADAPTERS leaves it out)"
        for options, left_out in (([], ""), (["--adapters=none"], named)):
            with self.subTest(options):
                said = self.run_out(*options)
                self.assertRegex(said, line)
                self.assertEqual(line.match(said)[2], left_out)
                self.assertGreater(float(line.match(said)[1]), 32)
        self.assertEqual(self.run_out(log="error"), "")

    def test_no_signal_handler_is_installed_and_no_signal_ignored(self):
        masks = []
        for command in ([], [RUN, "-l", "4MiB", "--log", "off", "--"]):
            shown = subprocess.run(
                [*command, "/usr/bin/python3", "-I", "-c", "x = bytes(50_000_000); print(open('/proc/self/status').read())"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            found = [int(mask, 16) for mask in re.findall(r"^Sig(?:Blk|Ign|Cgt):\s*(\w+)$", shown, re.M)]
            # 32 and 33 are the C library's own, which it handles once there is a thread.
            masks.append([mask & ~(3 << 31) for mask in found])
        self.assertEqual(len(masks[0]), 3)
        self.assertEqual(masks[0], masks[1])


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    unittest.main()
