#!/usr/bin/env python3
"""The command `memlimit`: ps, stat, set, top, events, record, plot and doctor on a real process.

Usage: tool_test.py BUILD_ROOT.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
TOOL = str(BUILD / "scripts" / "memlimit")
RUN = str(BUILD / "scripts" / "memlimit-run")

sys.dont_write_bytecode = True
sys.path.insert(0, str(BUILD / "scripts"))
from memlimit_cli import elf, processes, text  # noqa: E402

HOLDER = """
import sys
held = [bytes(100_000) for _ in range(200)]
print("ready", flush=True)
for line in sys.stdin:
    held += [bytes(100_000) for _ in range(int(line))]
    print("ready", flush=True)
"""


def tool(*arguments, **settings):
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/", **settings}
    return subprocess.run(
        ["/usr/bin/python3", TOOL, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@contextlib.contextmanager
def holder(limit="64MiB", socket=None):
    """A python3 that holds 20 MB under memlimit, until its standard input ends."""
    options = ["--socket", socket] if socket else []
    with subprocess.Popen(
        [RUN, "-l", limit, *options, "/usr/bin/python3", "-I", "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise AssertionError("the program under memlimit did not come up")
            # Its socket is made by a thread of its own, which may not have run yet.
            while processes.find_pid(process.pid).address is None:
                os.sched_yield()
            yield process
        finally:
            process.stdin.close()
            process.wait()


def hold_more(process, blocks):
    process.stdin.write(f"{blocks}\n")
    process.stdin.flush()
    process.stdout.readline()


class Looks(unittest.TestCase):
    def test_ps_lists_a_process_with_its_limit(self):
        with holder() as process:
            lines = tool("ps").stdout.splitlines()
            self.assertEqual(lines[0].split(), ["PID", "NAME", "HEAP", "LIMIT", "USE", "LEVEL", "RSS", "ROUNDS"])
            (line,) = [line for line in lines if line.split()[0] == str(process.pid)]
            self.assertIn("64 MiB", line)
            self.assertIn("python3", line)

    def test_stat_prints_any_file_of_the_socket(self):
        with holder() as process:
            self.assertIn(f"Pid:\t{process.pid}\n", tool("stat", str(process.pid)).stdout)
            self.assertIn("limit 67108864\n", tool("stat", str(process.pid), "stat").stdout)
            self.assertIn("MEMLIMIT_ACCOUNT", tool("stat", str(process.pid), "config").stdout)
            refused = tool("stat", str(process.pid), "nonsense")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("nonsense", refused.stderr)

    def test_a_socket_in_a_place_of_its_own_is_found(self):
        with tempfile.TemporaryDirectory(dir="/tmp") as name:
            with holder(socket=f"{name}/%p.app") as process:
                self.assertIn("python3", tool("stat", str(process.pid)).stdout)
                self.assertIn("python3", tool("stat", f"{name}/{process.pid}.app").stdout)

    def test_top_prints_a_plain_picture_when_nobody_watches(self):
        with holder() as process:
            result = tool("top")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertNotIn("\x1b", result.stdout)
            self.assertTrue(all(len(line) <= 80 for line in result.stdout.splitlines()))
            self.assertIn(str(process.pid), result.stdout)

    def test_events_are_a_stream(self):
        with holder() as process:
            with subprocess.Popen(
                ["/usr/bin/python3", TOOL, "events", str(process.pid)], stdout=subprocess.PIPE, text=True
            ) as stream:
                first = stream.stdout.readline()
                tool("set", str(process.pid), "32MiB")
                second = stream.stdout.readline()
                process.stdin.close()
                process.wait()
                stream.stdout.read()
                self.assertEqual(stream.wait(), 0)
        self.assertIn("limit=67108864", first)
        self.assertIn("33554432", second)


class Changes(unittest.TestCase):
    def test_set_changes_the_limit_and_says_from_what(self):
        with holder() as process:
            result = tool("set", str(process.pid), "300MiB")
            self.assertEqual(result.stdout, f"{process.pid} (python3): limit 64 MiB -> 300 MiB\n", result.stderr)
            self.assertIn("-> off", tool("set", str(process.pid), "off").stdout)

    def test_set_refuses_what_is_no_size_and_changes_nothing(self):
        with holder() as process:
            result = tool("set", str(process.pid), "300MB")
            self.assertEqual(result.returncode, 1)
            self.assertIn("did you mean 300MiB", result.stderr)
            self.assertIn("limit 67108864\n", tool("stat", str(process.pid), "stat").stdout)


class Records(unittest.TestCase):
    def test_record_of_a_command_and_its_plot(self):
        with tempfile.TemporaryDirectory() as name:
            recording, picture = f"{name}/r.tsv", f"{name}/r.png"
            work = "x = [bytes(100_000) for _ in range(300)]\nfor i in range(3_000_000): pass"
            result = tool(
                "record", "-o", recording, "-d", "0.02", "-l", "64MiB", "--", "/usr/bin/python3", "-I", "-c", work
            )
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = pathlib.Path(recording).read_text(encoding="utf-8").splitlines()
            self.assertEqual(lines[0].split("\t")[:3], ["time", "limit", "heap_alloc"])
            self.assertGreater(len(lines), 2)
            self.assertTrue(all(line.split("\t")[1] == "67108864" for line in lines[1:]))
            plotted = tool("plot", recording, "-o", picture)
            if plotted.returncode == 0:
                self.assertEqual(pathlib.Path(picture).read_bytes()[:4], b"\x89PNG")
            else:
                self.assertIn("apt install python3-matplotlib", plotted.stderr)

    def test_record_passes_on_the_commands_status(self):
        with tempfile.TemporaryDirectory() as name:
            result = tool("record", "-o", f"{name}/r", "--", "sh", "-c", "exit 5")
            self.assertEqual(result.returncode, 5)

    def test_plot_of_what_is_no_recording(self):
        result = tool("plot", "/etc/passwd", "-o", "/dev/null")
        self.assertEqual(result.returncode, 1)
        self.assertIn("not a recording", result.stderr)


class Explains(unittest.TestCase):
    def test_no_such_process(self):
        self.assertIn("no process 4194305", tool("stat", "4194305").stderr)
        self.assertEqual(tool("stat", "4194305").returncode, 1)

    def test_a_process_without_the_library(self):
        result = tool("stat", str(os.getpid()))
        self.assertEqual(result.returncode, 1)
        self.assertIn("does not run under memlimit", result.stderr)

    def test_a_name_that_nobody_has(self):
        self.assertIn("is called", tool("stat", "no-such-name").stderr)

    def test_doctor_is_content_with_a_plain_program(self):
        result = tool("doctor", "--", "/usr/bin/python3")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("dynamically linked", result.stdout)

    def test_doctor_names_a_bad_setting(self):
        result = tool("doctor", MEMLIMIT="512MB")
        self.assertEqual(result.returncode, 1)
        self.assertIn("did you mean 512MiB", result.stdout)

    def test_doctor_knows_a_static_program(self):
        with tempfile.TemporaryDirectory() as name:
            source, program = f"{name}/p.c", f"{name}/p"
            pathlib.Path(source).write_text("int main(void) { return 0; }\n", encoding="utf-8")
            built = subprocess.run(["gcc", "-static", source, "-o", program], capture_output=True, check=False)
            if built.returncode:
                self.skipTest("no static C library")
            result = tool("doctor", "--", program)
            self.assertEqual(result.returncode, 1)
            self.assertIn("statically linked", result.stdout)

    def test_doctor_follows_a_script_to_its_interpreter(self):
        with tempfile.TemporaryDirectory() as name:
            script = pathlib.Path(name) / "script"
            script.write_text("#!/usr/bin/env -S python3 -I\n", encoding="utf-8")
            script.chmod(0o755)
            result = tool("doctor", "--", str(script))
            self.assertIn("a script; what counts is python3", result.stdout)

    def test_doctor_warns_of_an_allocator_that_comes_first(self):
        library = str(BUILD / "preload" / "libmemlimit.so")
        result = tool("doctor", LD_PRELOAD=f"/nonexistent/libjemalloc.so.2:{library}")
        self.assertEqual(result.returncode, 1)
        self.assertIn("libjemalloc.so.2 comes before", result.stdout)

    def test_doctor_on_a_running_process(self):
        with holder() as process:
            self.assertEqual(tool("doctor", "-p", str(process.pid)).returncode, 0)
        result = tool("doctor", "-p", str(os.getpid()))
        self.assertEqual(result.returncode, 1)
        self.assertIn("without LD_PRELOAD", result.stdout)


class Parts(unittest.TestCase):
    def test_sizes_for_people(self):
        for size, shown in (
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (315621376, "301 MiB"),
            (1567621120, "1.46 GiB"),
            (-5 * 1024 * 1024, "-5 MiB"),
        ):
            self.assertEqual(text.format_size(size), shown)

    def test_durations_for_people(self):
        for seconds, shown in ((0, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7320, "2 h 2 min"), (86400, "1 d")):
            self.assertEqual(text.format_seconds(seconds), shown)

    def test_elf_of_this_interpreter(self):
        program = elf.read_program("/usr/bin/python3")
        self.assertIsNotNone(program.interpreter)
        self.assertIn("libc.so.6", program.needed)
        with self.assertRaises(elf.NotElf):
            elf.read_program(__file__)


if __name__ == "__main__":
    unittest.main()
