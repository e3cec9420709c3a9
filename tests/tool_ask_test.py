#!/usr/bin/env python3
"""How the command `memlimit` asks: many at once, and what it says of whom does not answer; JSON, containers, events.

Usage: tool_ask_test.py BUILD_ROOT.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import unittest
import unittest.mock

from tool_support import RUN, TOOL, holder, stopped, tool

from memlimit_cli import absent, asking, client, container, events, formats, processes, text  # noqa: E402

ID = "0123456789ab" + "c" * 52
POD = "0a1b2c3d-1111-2222-3333-444455556666"


class Silent(unittest.TestCase):
    """Of those that do not answer."""

    def test_all_of_them_together_cost_one_timeout(self):
        # Fakes, for the clock: each would take a timeout by itself.
        release = threading.Event()

        def never(pid, timeout_s):
            release.wait()

        waits = []
        real = threading.Event.wait

        def wait(event, *given):
            if given:
                waits.append(given[0])
            return real(event, *given)

        try:
            with unittest.mock.patch.object(asking, "ask_one", never), unittest.mock.patch.object(threading.Event, "wait", wait):
                asker = asking.Asker(0.2)
                answers = asker.round(self.children)
                self.assertEqual(len(answers), len(self.children))
                self.assertTrue(all(answer.silent for answer in answers))
                # Whoever is waited for first takes it all.
                self.assertLess(sum(waits), 0.21)
                waits.clear()
                self.assertEqual(len(asker.round(self.children)), len(self.children))
                self.assertEqual(waits, [])
        finally:
            release.set()

    def setUp(self):
        self.sleepers = [subprocess.Popen(["/bin/sleep", "1000"]) for _ in range(30)]
        self.children = [process.pid for process in self.sleepers]

    def tearDown(self):
        for process in self.sleepers:
            process.kill()
            process.wait()

    def test_ps_shows_a_stopped_process_with_the_reason_and_the_others_with_figures(self):
        with holder() as one, holder() as other, holder() as third, stopped(one), stopped(other):
            result = tool("ps", "-w", "1", *(str(process.pid) for process in (one, other, third)))
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
            for process in (one, other):
                self.assertIn("no answer", lines[str(process.pid)])
                self.assertRegex(result.stderr, rf"memlimit: {process.pid} \(python3\): no answer .*: it is stopped \(kill -CONT")
            self.assertIn("64 MiB", lines[str(third.pid)])

    def test_stat_of_a_stopped_process_says_that_it_is_stopped(self):
        with holder() as process, stopped(process), unittest.mock.patch.object(client, "TIMEOUT_S", 0.2):
            with self.assertRaisesRegex(client.NoAnswer, r"no answer within 0.2 s: it is stopped"):
                processes.find_pid(process.pid).stat()

    def test_who_answers_again_is_not_silent_any_more(self):
        with holder() as process:
            asker = asking.Asker(0.3)
            with stopped(process):
                (answer,) = asker.round([process.pid])
                self.assertTrue(answer.silent)
            while answer.silent:
                (answer,) = asker.round([process.pid])
            self.assertEqual(answer.figures["limit"], 64 << 20)
            self.assertEqual(asker.silent, {})

    def test_a_process_that_ends_is_left_out(self):
        asker = asking.Asker(1)
        with holder() as process:
            self.assertEqual(len(asker.round([process.pid])), 1)
        self.assertEqual(asker.round([process.pid]), [])
        self.assertEqual(asker.round([]), [])
        self.assertEqual((asker.pending, asker.silent), ({}, {}))

    def test_the_states_of_who_does_not_answer(self):
        self.assertEqual(absent.why_silent(4194305), ": it has ended")
        self.assertEqual(absent.why_silent(os.getpid()), "")

    @unittest.skipUnless(os.geteuid() == 0 and os.path.isdir("/sys/fs/cgroup/freezer"), "needs root and the freezer of cgroup v1")
    def test_a_paused_container_is_called_paused(self):
        group = pathlib.Path(f"/sys/fs/cgroup/freezer/memlimit-test-{os.getpid()}")
        try:
            group.mkdir()
            (group / "cgroup.procs").write_text(str(self.children[0]), encoding="ascii")
            (group / "freezer.state").write_text("FROZEN", encoding="ascii")
        except OSError as error:
            self.skipTest(f"no cgroup can be frozen here: {error}")
        try:
            self.assertIn("its container is paused", absent.why_silent(self.children[0]))
        finally:
            (group / "freezer.state").write_text("THAWED", encoding="ascii")
            self.sleepers[0].kill()
            self.sleepers[0].wait()
            while pathlib.Path(group / "cgroup.procs").read_text(encoding="ascii"):
                os.sched_yield()
            group.rmdir()


class Containers(unittest.TestCase):
    def test_short_names(self):
        for text_, shown in (
            (f"0::/system.slice/docker-{ID}.scope", "docker:0123456789ab"),
            (f"4:memory:/docker/{ID}\n0::/", "docker:0123456789ab"),
            (f"0::/../docker-{ID}.scope", "docker:0123456789ab"),
            (f"0::/system.slice/nerdctl-{ID}.scope", "nerdctl:0123456789ab"),
            (f"0::/default/{ID}", "containerd:0123456789ab"),
            (f"0::/machine.slice/libpod-{ID}.scope/container", "podman:0123456789ab"),
            (
                f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
                "pod:0a1b2c3d/0123456789ab",
            ),
            (f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/crio-{ID}.scope", "pod:0a1b2c3d/0123456789ab"),
            (f"5:memory:/kubepods/besteffort/pod{POD}/{ID}\n1:name=systemd:/kubepods/x", "pod:0a1b2c3d/0123456789ab"),
            (f"0::/kubepods/pod{POD}", "pod:0a1b2c3d"),
            ("0::/lxc.payload.web/system.slice/redis-server.service", "lxc:web"),
            ("0::/machine.slice/machine-debian.scope/init.scope", "machine:debian"),
            ("0::/system.slice/redis-server.service", "redis-server"),
            ("0::/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1"),
            (r"0::/system.slice/a\x2db.service", "a-b"),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-editor.service", "app-editor"),
            ("0::/user.slice/user-1000.slice/session-3.scope", "session-3"),
            ("12:memory:/system.slice/nginx.service\n1:name=systemd:/x.service\n0::/", "nginx"),
            ("0::/", "-"),
            ("", "-"),
            ("garbage", "-"),
            ("0::/a\x1b[2J.service", "a?[2J"),
        ):
            self.assertEqual(container.short_name(text_), shown, text_)


class Json(unittest.TestCase):
    def test_ps(self):
        with holder() as process:
            (told,) = json.loads(tool("ps", "--json", str(process.pid)).stdout)
            self.assertEqual((told["pid"], told["name"], told["limit"], told["answers"]), (process.pid, "python3", 64 << 20, True))
            self.assertAlmostEqual(told["share"], told["paced"] / told["limit"], places=3)
            self.assertIsNone(told["problem"])
        nobody = tool("ps", "--json", "no-such-name")
        self.assertEqual((nobody.returncode, json.loads(nobody.stdout)), (1, []))

    def test_stat_and_every_file(self):
        with holder() as process:
            def told(*file):
                return json.loads(tool("stat", "--json", str(process.pid), *file).stdout)

            self.assertEqual(told()["MemLimit"], 64 << 20)
            self.assertEqual(told("stat")["limit"], 64 << 20)
            self.assertEqual(told("limit"), {"limit": 64 << 20})
            self.assertIn("cpython", [hook["name"] for hook in told("hooks")])
            heap = told("heap")
            self.assertEqual(heap["classes"][0]["class"], "block-16")
            self.assertIsNone(next(row for row in heap["classes"] if row["class"] == "large")["block"])
            self.assertIn(f"thread-{process.pid}", [row["thread"] for row in heap["threads"]])
            self.assertEqual(next(row for row in told("config") if row["name"] == "MEMLIMIT")["value"], "64MiB")
            self.assertIn("status", [row["name"] for row in told("ls")])
            self.assertIn("memlimit_", told("metrics")["text"])

    def test_tables_that_were_cut(self):
        heap = "class block live\nblock-16 16 1\nblock-3"
        self.assertEqual(formats.parse_heap(heap)["classes"], [{"class": "block-16", "block": 16, "live": 1}])
        self.assertEqual(formats.parse_hooks(""), [])
        self.assertEqual(formats.parse_hooks("name calls\n7 -\n"), [{"name": "7", "calls": None}])


class Events(unittest.TestCase):
    def stream(self, process, *arguments):
        return subprocess.Popen(
            ["/usr/bin/python3", TOOL, "events", *arguments, str(process.pid)], stdout=subprocess.PIPE, text=True
        )

    def test_they_have_the_time_of_day_and_units(self):
        with holder() as process, self.stream(process) as stream:
            first = stream.stdout.readline()
            self.assertRegex(first, r"^\d\d:\d\d:\d\d\.\d{3} state +level=\w+ limit=64 MiB heap_alloc=[\d.]+ MiB")
            began = time.time()
            tool("set", str(process.pid), "32MiB")
            ended = time.time()
            while " limit " not in (line := stream.stdout.readline()):
                self.assertTrue(line, "the stream ended")
            self.assertRegex(line, r"limit +from=64 MiB to=32 MiB by=socket$")
            # Its time is between these two, to the millisecond that is written.
            self.assertIn(line[:8], {events.time_of_day(second)[:8] for second in range(int(began), int(ended) + 1)})
            stream.kill()

    def test_a_filter_leaves_out_what_is_not_asked_for(self):
        with holder() as process, self.stream(process, "--raw", "--only", "limit,state") as stream:
            self.assertTrue(stream.stdout.readline().startswith("state "))
            for limit in ("30MiB", "31MiB"):
                tool("set", str(process.pid), limit)
            lines = [stream.stdout.readline() for _ in range(2)]
            stream.kill()
        self.assertTrue(all(line.startswith("event=limit ") for line in lines), lines)

    def test_filters(self):
        lines = ["state level=low", "event=round time_ns=5 round=1", "event=limiter_on time_ns=6 needed=7", "event=new time_ns=7"]
        for given, kept in (
            ({}, 4), ({"only": "round"}, 1), ({"without": "round,state"}, 2), ({"level": "warn"}, 2), ({"level": "info"}, 3),
        ):
            wanted = events.Filter(**given)
            self.assertEqual(sum(map(wanted.lets_through, lines)), kept, given)
        with self.assertRaisesRegex(text.UserError, "rounds is no event: there are state, round"):
            events.Filter("rounds")

    def test_json_is_an_object_a_line(self):
        line = events.as_json("event=limit time_ns=1 from=0 to=5 by=socket", events.Clock(), processes.Process(7, "a", None))
        told = json.loads(line)
        self.assertRegex(told.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(told, {"pid": 7, "name": "a", "event": "limit", "from": 0, "to": 5, "by": "socket"})

    def test_the_levels_are_those_of_the_library(self):
        source = pathlib.Path(__file__).resolve().parent.parent / "lib" / "observe" / "events.inc"
        rows = re.findall(r'MEMLIMIT_EVENT\(k\w+, "(\w+)", k(\w+),', source.read_text(encoding="utf-8"))
        self.assertEqual({name: level.lower() for name, level in rows}, events.LEVELS)


class Small(unittest.TestCase):
    def test_a_python_without_curses_has_all_but_top(self):
        code = "import runpy, sys; sys.modules['curses'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"

        def run(*arguments):
            return subprocess.run(["/usr/bin/python3", "-c", code, TOOL, *arguments], capture_output=True, text=True, check=False)

        with holder() as process:
            self.assertIn("64 MiB", run("ps", str(process.pid)).stdout)
        refused = run("top")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("memlimit: top needs Python's module curses", refused.stderr)


class Places(unittest.TestCase):
    def test_units_of_systemd_have_a_directory_each(self):
        # Two units with the same RuntimeDirectory=: systemd removes it, and the other's sockets, when one stops.
        readme = (pathlib.Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
        unit = re.search(r"```ini\n(.*?)```", readme, re.S)[1]
        (directory,) = re.findall(r"^RuntimeDirectory=(.*)$", unit, re.M)
        self.assertRegex(directory, r"^memlimit/.*%[nNp]")
        (place,) = re.findall(r"^ExecStart=.* --socket=(\S+) ", unit, re.M)
        self.assertEqual(place, f"%t/{directory}/")
        with tempfile.TemporaryDirectory() as run, contextlib.ExitStack() as stack:
            # The specifier as systemd writes it, for two units of which one stops.
            first, second = (f"{run}/memlimit/{unit}" for unit in ("first", "second"))
            os.makedirs(first)
            os.makedirs(second)
            process = stack.enter_context(holder(socket=f"{first}/"))
            with holder(socket=f"{second}/"):
                pass
            for left in os.listdir(second):
                os.unlink(f"{second}/{left}")
            os.rmdir(second)
            self.assertEqual(os.listdir(first), [f"{process.pid}.sock"])
            self.assertIn(f"Pid:\t{process.pid}\n", tool("stat", str(process.pid)).stdout)

    def test_two_containers_with_one_host_name_are_told_what_differs(self):
        self.assertIn("put %p", absent.way_out("/run/s.sock"))
        self.assertIn("put %h", absent.way_out("/run/%p.sock"))
        self.assertIn("put %h", absent.way_out("/run/memlimit/"))
        self.assertIn("a host name or a directory of its own", absent.way_out("/run/%h-%p.sock"))

    @unittest.skipUnless(os.geteuid() == 0, "needs root, for a mount namespace")
    def test_an_image_without_python_is_looked_at_from_outside(self):
        code = "print('ready', flush=True); held = [bytes(100000) for _ in range(200)]; print('held', flush=True); input()"
        with tempfile.TemporaryDirectory() as place:
            script = f"mount -t tmpfs none {place} && exec {RUN} -l 64MiB --socket {place}/s.sock -- /usr/bin/python3 -Ic \"$0\""
            with subprocess.Popen(
                ["unshare", "-m", "/bin/sh", "-c", script, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                if not process.stdout.readline():
                    self.skipTest("no mount namespaces here")
                process.stdout.readline()
                try:
                    while processes.find_pid(process.pid).address is None:
                        os.sched_yield()
                    self.assertEqual(os.listdir(place), [])
                    self.assertIn("64 MiB", tool("ps", str(process.pid)).stdout)
                finally:
                    process.communicate("\n")


if __name__ == "__main__":
    unittest.main()
