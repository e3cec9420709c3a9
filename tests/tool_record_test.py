#!/usr/bin/env python3
"""`memlimit record` and `memlimit plot`.

Usage: tool_record_test.py BUILD_ROOT.
"""

import io
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import unittest.mock
from xml.etree import ElementTree

from tool_support import TOOL, holder, stopped, tool

from memlimit_cli import client, plot, processes, recording, svg  # noqa: E402


CLOCKS_S = 0.05  # what two clocks may be apart that are read one after the other


def samples_of(path):
    """The cells of each line that is no remark."""
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


class Records(unittest.TestCase):
    def test_record_of_a_command_and_its_plot(self):
        with tempfile.TemporaryDirectory() as name:
            recording, picture = f"{name}/r.tsv", f"{name}/r.svg"
            work = "x = [bytes(100_000) for _ in range(300)]\nfor i in range(3_000_000): pass"
            result = tool(
                "record", "-o", recording, "-d", "0.02", "-l", "64MiB", "--", "/usr/bin/python3", "-I", "-c", work
            )
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = samples_of(recording)
            self.assertEqual(lines[0][:4], ["time", "clock", "limit", "heap_alloc"])
            self.assertGreater(len(lines), 2)
            self.assertEqual({line[2] for line in lines[1:]}, {"67108864"})
            plotted = tool("plot", recording, "-o", picture)
            self.assertEqual(plotted.returncode, 0, plotted.stderr)
            self.assertTrue(ElementTree.parse(picture).getroot().tag.endswith("svg"))

    def test_record_of_a_small_program(self):
        with tempfile.TemporaryDirectory() as name:
            # It never has a heap that would bring its socket up, but it waits for events.
            waits = "import select, sys; select.select([sys.stdin], [], [])"
            with subprocess.Popen(
                ["/usr/bin/python3", TOOL, "record", "-o", f"{name}/r", "-d", "0.01", "--", "/usr/bin/python3", "-Sc", waits],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as recorder:
                while len(pathlib.Path(f"{name}/r").read_bytes().splitlines() if os.path.exists(f"{name}/r") else ()) < 4:
                    os.sched_yield()
                said = recorder.communicate("go\n")[1]
            self.assertEqual(recorder.returncode, 0, said)

    def test_record_of_a_process_ends_with_ctrl_c(self):
        with tempfile.TemporaryDirectory() as name, holder() as process:
            with subprocess.Popen(
                ["/usr/bin/python3", TOOL, "record", "-p", str(process.pid), "-o", f"{name}/r", "-d", "0.01"],
                stderr=subprocess.PIPE,
                text=True,
            ) as recorder:
                while not os.path.exists(f"{name}/r") or os.path.getsize(f"{name}/r") == 0:
                    os.sched_yield()
                recorder.send_signal(signal.SIGINT)
                said = recorder.communicate()[1]
            self.assertEqual(recorder.returncode, 0, said)
            self.assertRegex(said, r"^memlimit: \d+ samples of \d+ \(python3\) in .* in .*/r\n$")

    def test_record_of_what_is_not_under_memlimit_says_so(self):
        with tempfile.TemporaryDirectory() as name:
            result = tool("record", "-o", f"{name}/r", "--", "true")
            self.assertEqual(result.returncode, 0)
            if "memlimit: 0 samples" in result.stderr:
                self.assertIn("memlimit doctor -- true", result.stderr)
            refused = tool("record", "-p", str(os.getpid()), "-o", f"{name}/r")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("does not run under memlimit", refused.stderr)
            refused = tool("record", "-p", "1", "-o", f"{name}/no/such/r")
            self.assertEqual(refused.stderr, f"memlimit: {name}/no/such/r: No such file or directory\n")

    def test_a_recording_that_was_cut_short_can_be_plotted(self):
        recording = "time\theap_alloc\n0.0\t1\n0.1\t2\n0.2"  # as older ones are: nothing but the table
        with tempfile.TemporaryDirectory() as name:
            path = pathlib.Path(name, "r")
            path.write_text(recording, encoding="utf-8")
            result = tool("plot", str(path), "-o", f"{name}/r.svg", "--against", str(path))
            self.assertIn("2 samples", result.stdout, result.stderr)
            path.write_text(recording + "\t3\n0.3\tmuch\n", encoding="utf-8")
            self.assertIn("r:5: much is not a number", tool("plot", str(path), "-o", f"{name}/r.svg").stderr)

    def test_record_passes_on_the_commands_status(self):
        with tempfile.TemporaryDirectory() as name:
            result = tool("record", "-o", f"{name}/r", "--", "sh", "-c", "exit 5")
            self.assertEqual(result.returncode, 5)

    def test_plot_of_what_is_no_recording(self):
        result = tool("plot", "/etc/passwd", "-o", "/dev/null")
        self.assertEqual(result.returncode, 1)
        self.assertIn("not a recording", result.stderr)

    def test_a_recording_says_whose_it_is_and_when_it_was(self):
        with tempfile.TemporaryDirectory() as name, holder() as process:
            began = time.time()
            result = tool("record", "-p", str(process.pid), "-o", f"{name}/r", "-d", "0.02", "-t", "0.3")
            self.assertEqual(result.returncode, 0, result.stderr)
            told = recording.read(f"{name}/r")
            self.assertEqual((told.about["pid"], told.about["name"]), (str(process.pid), "python3"))
            self.assertRegex(told.about["started"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertGreaterEqual(told.columns["clock"][0], began - 0.001)
            self.assertAlmostEqual(told.columns["clock"][-1] - told.columns["clock"][0], told.times[-1] - told.times[0], places=2)
            self.assertIn("paced", told.columns)
            self.assertIn("cgroup_used", told.columns)

    def test_events_are_recorded_with_their_time(self):
        with tempfile.TemporaryDirectory() as name, holder() as process:
            with subprocess.Popen(
                ["/usr/bin/python3", TOOL, "record", "-p", str(process.pid), "-o", f"{name}/r", "-d", "0.02"],
                stderr=subprocess.DEVNULL,
            ) as recorder:
                while not os.path.exists(f"{name}/r") or len(pathlib.Path(f"{name}/r").read_bytes().splitlines()) < 12:
                    os.sched_yield()
                tool("set", str(process.pid), "70MiB")
                while b"#event" not in pathlib.Path(f"{name}/r").read_bytes():
                    os.sched_yield()
                recorder.send_signal(signal.SIGINT)
            told = recording.read(f"{name}/r")
            (event,) = [event for event in told.events if event[1] == "limit"]
            self.assertEqual(event[2], "from=64 MiB to=70 MiB by=socket")
            # A sample's time is from before it is asked for: what has changed in it may be younger than that.
            before = [time for time, limit in zip(told.times, told.columns["limit"]) if limit == 64 << 20][-1]
            after = [time for time, limit in zip(told.times, told.columns["limit"]) if limit == 70 << 20][1:] or [math.inf]
            self.assertTrue(before - CLOCKS_S <= event[0] <= after[0] + CLOCKS_S, (before, event[0], after[0]))

    def test_a_process_that_stalls_leaves_a_gap_and_not_the_end(self):
        with tempfile.TemporaryDirectory() as name, holder() as process:
            out = io.StringIO()
            made = recording.Recording(out, 0.01)
            found = processes.find_pid(process.pid)
            made.begin(found)
            self.assertTrue(made.sample())
            with stopped(process), unittest.mock.patch.object(client, "TIMEOUT_S", 0.1):
                self.assertTrue(made.sample())
                self.assertTrue(made.sample())
            while made.samples < 2:
                self.assertTrue(made.sample())
            made.heard.closed.set()
            said = out.getvalue()
            self.assertEqual(said.count("no_answer"), 1)
            self.assertIn("it is stopped", said)
            self.assertEqual(said.count("answers_again"), 1)
        self.assertFalse(made.sample())

    def test_a_wrapper_is_seen_through(self):
        # A shell that waits for its child; and one that has several children, one after the other.
        child = "/usr/bin/python3 -I -c 'import time; x = [bytes(100000) for _ in range(200)]; time.sleep(1)'"
        for script, least in ((f"{child}; true", 1), (f"sh -c \"{child}; true\"; true", 1)):
            with tempfile.TemporaryDirectory() as name:
                result = tool("record", "-o", f"{name}/r", "-d", "0.02", "-l", "64MiB", "--", "sh", "-c", script)
                self.assertEqual(result.returncode, 0, result.stderr)
                told = recording.read(f"{name}/r")
                self.assertEqual(told.about["name"], "python3")
                self.assertGreaterEqual(len(told.times), least)
                self.assertGreater(max(told.columns["heap_alloc"]), 15 << 20)
                self.assertRegex(result.stderr, r"samples of \d+ \(python3\)")

    def test_what_follows_a_process_that_ended_is_recorded_too(self):
        child = "/usr/bin/python3 -I -c 'import time; x = [bytes(100000) for _ in range(100)]; time.sleep(1)'"
        with tempfile.TemporaryDirectory() as name:
            result = tool("record", "-o", f"{name}/r", "-d", "0.02", "-l", "64MiB", "--", "sh", "-c", f"{child}; {child}; true")
            told = recording.read(f"{name}/r")
            self.assertEqual([name for _, _, name in told.processes], ["python3"], result.stderr)


class Pictures(unittest.TestCase):
    SVG = "{http://www.w3.org/2000/svg}"

    def recording(self, directory, lines, **columns):
        keys = ["time", "clock", *columns]
        rows = zip(*([[f"{i / 10:.1f}" for i in range(100)], [f"{1.7e9 + i / 10:.1f}" for i in range(100)], *columns.values()]))
        path = pathlib.Path(directory, "r.tsv")
        path.write_text("\n".join([*lines, "\t".join(keys), *("\t".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
        return str(path)

    def drawn(self, directory, path, *options):
        result = tool("plot", path, "-o", f"{directory}/r.svg", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        root = ElementTree.parse(f"{directory}/r.svg").getroot()
        return root, [text.text for text in root.iter(f"{self.SVG}text")]

    def full(self, directory):
        steps = range(100)
        return self.recording(
            directory,
            ["# memlimit recording 2", "# pid 7", "# name <redis> & \x1b[2J", "# started 2026-01-01T00:00:00.000Z",
             "#event\t2.0\tlimit\tfrom=1 to=2", "#event\t3.0\tlimiter_on\tneeded=\"5\"", "#event\tx\tbroken"],
            limit=[(64 if i < 50 else 96) << 20 for i in steps], heap_alloc=[i << 19 for i in steps], paced=[i << 20 for i in steps],
            rss_anon=[i << 19 for i in steps], cgroup_used=[i << 20 for i in steps], limiter_on=[int(30 < i < 40) for i in steps],
            rounds=[i // 2 for i in steps],
        )

    def test_it_is_valid_and_names_what_it_shows(self):
        with tempfile.TemporaryDirectory() as name:
            root, words = self.drawn(name, self.full(name))
            self.assertIn("<redis> & ?[2J, pid 7", words)
            for said in ("MiB", "rounds/s", "seconds since the beginning, and time of day", "RSS (anonymous)", "heap (live blocks)",
                         "paced: held to the limit", "its cgroup, working set", "limit, 64 MiB to 96 MiB", "limit let go",
                         "limit, 1 time", "limiter_on, 1 time"):
                self.assertIn(said, words)
            self.assertRegex(" ".join(words), r"\d\d:\d\d:\d\d")
            # Each mark tells on its own what it is.
            self.assertIn("2.00 s: limit from=1 to=2", [title.text for title in root.iter(f"{self.SVG}title")])

    def test_the_legend_covers_nothing(self):
        with tempfile.TemporaryDirectory() as name:
            root, words = self.drawn(name, self.full(name))
            for text in root.iter(f"{self.SVG}text"):
                if text.text in ("RSS (anonymous)", "limit let go", "limiter_on, 1 time"):
                    self.assertGreater(float(text.get("x")), plot.RIGHT)

    def test_every_figure_is_inside_the_picture(self):
        with tempfile.TemporaryDirectory() as name:
            root, _ = self.drawn(name, self.full(name))
            for path in root.iter(f"{self.SVG}path"):
                for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d")):
                    self.assertTrue(0 <= float(x) <= plot.WIDTH and 0 <= float(y) <= plot.HEIGHT, path.get("d"))

    def test_a_gap_is_not_bridged(self):
        times = [i / 10 for i in range(20)] + [10 + i / 10 for i in range(20)]
        self.assertEqual([len(run) for run in plot.stretches(times, times)], [20, 20])

    def test_many_samples_keep_their_peaks(self):
        points = [(i / 100, 5.0) for i in range(100_000)]
        points[77_777] = (777.77, 99.0)
        kept = svg.thinned(points)
        self.assertLess(len(kept), 3 * svg.MOST_POINTS)
        self.assertIn((777.77, 99.0), kept)
        self.assertEqual((kept[0], kept[-1]), (points[0], points[-1]))

    def test_axes_have_round_steps(self):
        for high in (0.003, 1, 7, 64, 99.9, 1e5):
            values, step = svg.ticks(0, high, 7)
            self.assertTrue(2 <= len(values) <= 8, (high, values))
            self.assertLessEqual(values[-1], high * 1.0001)
            self.assertIn(f"{step:e}"[0], "125")
        self.assertEqual(svg.time_ticks(3600, 8)[1], 600)

    def test_png_needs_a_converter_and_says_so(self):
        with tempfile.TemporaryDirectory() as name:
            path = self.full(name)
            without = tool("plot", path, "-o", f"{name}/r.png", PATH="/nowhere")
            self.assertEqual(without.returncode, 1)
            self.assertIn("apt install librsvg2-bin", without.stderr)
            self.assertFalse(os.path.exists(f"{name}/r.png"))
            if shutil.which("rsvg-convert") or shutil.which("inkscape"):
                self.assertEqual(tool("plot", path, "-o", f"{name}/r.png").returncode, 0)
                self.assertEqual(pathlib.Path(f"{name}/r.png").read_bytes()[:4], b"\x89PNG")
                self.assertEqual(sorted(os.listdir(name)), ["r.png", "r.tsv"])


if __name__ == "__main__":
    unittest.main()
