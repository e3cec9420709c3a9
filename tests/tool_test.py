#!/usr/bin/env python3
"""The command `memlimit` on a real process: ps, stat, set, events, and whom it trusts. Others: tool_*_test.py.

Usage: tool_test.py BUILD_ROOT.
"""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest
import unittest.mock

from tool_support import (
    BUILD, FORGET, HOLDER, LIBRARY, NOBODY, PATIENCE_S, TOOL, as_nobody, holder, server, tool,
)

from memlimit_cli import client, elf, processes, text  # noqa: E402
from memlimit_cli.asking import user_name  # noqa: E402


HEAD = ["PID", "USER", "NAME", "CONTAINER", "PACED", "LIMIT", "USE", "LEVEL", "HEAP", "RSS", "ROUNDS"]


def line_of(lines, process):
    """The words of ps's line for a process."""
    (found,) = [line.split() for line in lines if line.split()[0] == str(process.pid)]
    return found


class Looks(unittest.TestCase):
    def test_ps_lists_a_process_with_its_limit(self):
        with holder() as process:
            lines = tool("ps").stdout.splitlines()
            self.assertEqual(lines[0].split(), HEAD)
            self.assertEqual(line_of(lines, process)[1], user_name(process.pid))
            (line,) = [line for line in lines if line.split()[0] == str(process.pid)]
            self.assertIn("64 MiB", line)
            self.assertIn("python3", line)
            self.assertEqual(len(tool("ps", str(process.pid)).stdout.splitlines()), 2)
            self.assertIn(line.split()[0], tool("top", "python3").stdout)
            nobody = tool("ps", "no-such-name")
            self.assertEqual((nobody.returncode, nobody.stdout), (1, ""))
            self.assertIn("is called no-such-name", nobody.stderr)

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

    def test_a_socket_is_found_though_the_program_overwrote_its_environment(self):
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="elsewhere-") as name:
            with holder(socket=f"{name}/somewhere", first=FORGET) as process:
                self.assertEqual(processes.environment_of(process.pid), {})
                self.assertIn(f"Pid:\t{process.pid}\n", tool("stat", str(process.pid)).stdout)

    def test_a_name_cannot_steer_the_terminal(self):
        rename = r'open("/proc/self/comm", "wb").write(b"\x1b[2J\n\xff\xc3\xa9.")'
        shown = "?[2J??\u00e9."
        with holder(first=rename) as process:
            for command in ("ps", "top"):
                result = tool(command, LANG="C.UTF-8")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertNotIn("\x1b", result.stdout)
                (line,) = [line for line in result.stdout.splitlines() if line.split()[:1] == [str(process.pid)]]
                self.assertIn(shown, line)
            self.assertIn(f"({shown})", tool("set", shown, "70MiB", LANG="C.UTF-8").stdout)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to become another user")
    def test_another_user_sees_what_the_mode_opens_and_no_more(self):
        with tempfile.TemporaryDirectory() as copy, contextlib.ExitStack() as stack:
            os.chmod(copy, 0o755)
            shutil.copytree(BUILD / "scripts", copy, dirs_exist_ok=True)
            closed = stack.enter_context(holder()).pid
            # In its default place: elsewhere nobody but its own user could know of it.
            opened = stack.enter_context(holder(MEMLIMIT_SOCKET_MODE="0666")).pid
            if not os.path.exists(f"/run/memlimit/{opened}.sock"):
                self.skipTest("no sockets in /run/memlimit here")
            pids = {line.split()[0] for line in as_nobody(copy, "ps").stdout.splitlines()[1:]}
            self.assertIn(str(opened), pids)
            self.assertNotIn(str(closed), pids)
            self.assertIn(f"Pid:\t{opened}\n", as_nobody(copy, "stat", str(opened)).stdout)
            for arguments in (("stat", str(closed)), ("events", str(closed)), ("set", str(closed), "1MiB")):
                refused = as_nobody(copy, *arguments)
                self.assertEqual((refused.returncode, refused.stdout), (1, ""))
                self.assertIn("belongs to root", refused.stderr)
            refused = as_nobody(copy, "set", str(opened), "1MiB")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("not permitted", refused.stderr)
            self.assertIn("limit 67108864\n", tool("stat", str(opened), "stat").stdout)

    def test_events_are_a_stream(self):
        with holder() as process:
            with subprocess.Popen(
                ["/usr/bin/python3", TOOL, "events", "--raw", str(process.pid)], stdout=subprocess.PIPE, text=True
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
            result = tool("set", str(process.pid), "300")
            self.assertEqual(result.returncode, 1)
            self.assertIn("is 300 bytes: did you mean 300MiB? Write 300B to mean bytes", result.stderr)
            self.assertIn("limit 67108864\n", tool("stat", str(process.pid), "stat").stdout)


class Distrusts(unittest.TestCase):
    """What listens on a socket may be any program, and root looks at everybody's."""

    def refusal(self, behave, request=client.ask):
        with server(behave) as path:
            with self.assertRaises(text.UserError) as caught:
                result = request(path, "stat")
                if not isinstance(result, str):
                    list(result)
            return str(caught.exception)

    def test_an_answer_without_end(self):
        def flood(connection):
            while True:
                connection.sendall(b"x" * 65536)

        self.assertIn("no end", self.refusal(flood))
        self.assertIn("no end", self.refusal(flood, lambda path, _: client.events(path)))

    def test_an_answer_that_dribbles(self):
        def dribble(connection):
            while not connection.sendall(b"x"):
                connection.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    connection.recv(100)

        with unittest.mock.patch.object(client, "TIMEOUT_S", 0.3):
            self.assertIn("no answer within", self.refusal(dribble))

    def test_an_answer_that_steers_the_terminal(self):
        with server(lambda connection: connection.sendall(b"a\x1b[2Jb\r\xff\n\tc\n")) as path:
            self.assertEqual(client.ask(path, "stat"), "a?[2Jb?\ufffd\n\tc\n")

    def test_a_stream_that_is_refused(self):
        busy = "memlimit: 32 clients read events already; try again later\n".encode()
        answer = self.refusal(lambda connection: connection.sendall(busy), lambda path, _: client.events(path))
        self.assertEqual(answer, "32 clients read events already; try again later")

    def test_a_process_that_ends_under_our_eyes(self):
        with tempfile.TemporaryDirectory() as name:
            path = f"{name}/s"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
            for request in (lambda process: process.stat(), lambda process: list(process.events())):
                with self.assertRaisesRegex(text.UserError, r"^7 \(gone\) has ended$"):
                    request(processes.Process(7, "gone", path))

    def test_a_process_that_ends_before_it_answers(self):
        with server(lambda connection: None) as path:
            with self.assertRaisesRegex(text.UserError, r"^7 \(gone\): no answer: it is about to end$"):
                processes.Process(7, "gone", path, by_address=True).stat()


def bound(name):
    """A socket that listens at a path, or at an abstract name that begins with NUL."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen()
    return listener


class DistrustsNames(unittest.TestCase):
    """/proc/net/unix prints names as they are, newlines included, and anybody may bind any."""

    def test_names_that_break_the_table(self):
        names = ("\0x\na b c zz e f g h", "\0\ra b c zz e f g h", "\0\x85a b c zz e f g h", "\0x\n\n", "\0x\n0 0 0 0 0 0 0 0")
        with holder() as process, contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(bound(name + str(process.pid)))
            result = tool("ps")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertNotIn("Traceback", result.stderr)
            (line,) = [line for line in result.stdout.splitlines() if line.split()[0] == str(process.pid)]
            self.assertIn("64 MiB", line)
            self.assertIn(f"Pid:\t{process.pid}\n", tool("stat", str(process.pid)).stdout)

    def test_a_name_that_adds_a_line_for_the_socket_of_another(self):
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            # One that is found by its name, and one that is found by its descriptor.
            for place in (f"{name}/memlimit.sock", f"{name}/s"):
                process = stack.enter_context(holder(socket=place, MEMLIMIT_ACCOUNT="heap"))
                (inode,) = [
                    line.split()[6]
                    for line in pathlib.Path("/proc/net/unix").read_text(errors="replace").splitlines()
                    if line.endswith(f" {place}")
                ]
                line = f"00000000: 00000002 00000000 00010000 0001 01 {inode} "
                stack.enter_context(bound(f"{name}/memlimit-{process.pid}"))
                stack.enter_context(bound(f"\0\n{line}{name}/memlimit-{process.pid}"))
                # Paths come first in the table, in 128 lists by their files' numbers: some before the real one.
                directory = f"{name}/\n{line}"
                os.mkdir(directory)
                with contextlib.chdir(name):
                    for number in range(256):
                        stack.enter_context(bound(f"\n{line}/memlimit-{number}"))
                self.assertEqual(processes.address_of(process.pid), place)
                self.assertIn(f"Pid:\t{process.pid}\n", tool("stat", str(process.pid)).stdout)

    def test_a_path_where_another_process_listens(self):
        with tempfile.TemporaryDirectory() as name:
            path = f"{name}/memlimit.sock"
            with holder(socket=path) as process:
                os.rename(path, f"{path}.real")
                with bound(path):
                    for arguments in (("stat",), ("events",)):
                        result = tool(arguments[0], str(process.pid))
                        self.assertEqual((result.returncode, result.stdout), (1, ""))
                        self.assertIn(f"{path} is another process's socket", result.stderr)
                    shown = tool("ps")
                    self.assertEqual(line_of(shown.stdout.splitlines(), process)[-5:-3], ["no", "socket"])
                    self.assertIn(f"{process.pid} (python3): another process listens where its socket should be", shown.stderr)
                # Who names a path means who listens there.
                self.assertIn(f"Pid:\t{process.pid}\n", tool("stat", f"{path}.real").stdout)
                os.rename(f"{path}.real", path)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, for a pid namespace")
    def test_pids_of_another_namespace_are_not_compared(self):
        self.assertTrue(processes.proc_numbers_as_we_do())
        code = (
            f"import os, sys; sys.path.insert(0, {str(BUILD / 'scripts')!r})\n"
            "from memlimit_cli import processes\n"
            "print(os.getpid(), processes.proc_numbers_as_we_do())\n"
        )
        command = ["unshare", "--pid", "--fork", "/usr/bin/python3", "-B", "-I", "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode and "unshare" in result.stderr:
            self.skipTest("no pid namespaces here")
        self.assertEqual(result.stdout, "1 False\n", result.stderr)
        with holder() as process:
            inside = subprocess.run(
                ["unshare", "--pid", "--fork", "/usr/bin/python3", TOOL, "stat", str(process.pid)],
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertIn(f"Pid:\t{process.pid}\n", inside.stdout, inside.stderr)

    def test_a_socket_of_another_user(self):
        pid, uid = os.getpid(), os.geteuid()
        for peer, process_uids, same_table, fine in (
            ((pid, uid), (uid,) * 4, True, True),
            ((pid, 0), (1000,) * 4, True, True),  # made before it gave up root
            ((pid, 1001), (1000,) * 4, True, False),
            ((pid + 1, uid), (uid,) * 4, True, False),
            ((0, uid), (uid,) * 4, True, False),
            ((0, 1000), (0, 1000, 0, 1000), False, True),
            ((0, 0), (1000,) * 4, False, False),
            ((pid, 1001), (1000,) * 4, False, False),
        ):
            with (
                unittest.mock.patch.object(client, "peer", lambda sock: peer),
                unittest.mock.patch.object(processes, "user_ids", lambda pid: process_uids),
                unittest.mock.patch.object(processes, "proc_numbers_as_we_do", lambda: same_table),
            ):
                self.assertEqual(processes.is_peer(None, pid), fine, (peer, process_uids, same_table))


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

    def reason(self, command=("/usr/bin/python3", "-I", "-c", HOLDER), **settings):
        """What doctor and stat say of a process that has no socket."""
        environment = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": LIBRARY, "MEMLIMIT": "64MiB", **settings}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        ) as process:
            process.stdin.write("0\n")
            process.stdin.flush()
            process.stdout.readline()
            result = tool("doctor", "-p", str(process.pid))
            told = re.search(r"has no statistics socket: (.*)", result.stdout)
            stat = tool("stat", str(process.pid))
            process.stdin.close()
        self.assertIsNotNone(told, result.stdout)
        self.assertIn(f"has no statistics socket: {told[1]}\n", stat.stderr)
        return told[1]

    def test_why_there_is_no_socket_is_told(self):
        self.assertEqual(self.reason(MEMLIMIT_SOCKET="off"), "MEMLIMIT_SOCKET=off")
        self.assertRegex(self.reason(["/bin/cat"]), "^it is small")
        with tempfile.TemporaryDirectory() as name:
            missing = f"{name}/no/such.sock"
            self.assertEqual(
                self.reason(MEMLIMIT_SOCKET=missing),
                f"MEMLIMIT_SOCKET={missing}: the directory {name}/no does not exist: make it first",
            )
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(f"{name}/s")
                listener.listen()
                self.assertEqual(
                    self.reason(MEMLIMIT_SOCKET=f"{name}/s"),
                    f"MEMLIMIT_SOCKET={name}/s: process {os.getpid()} has it: put %p, the pid, in the name",
                )
            pathlib.Path(name, "file").write_text("x", encoding="utf-8")
            self.assertRegex(self.reason(MEMLIMIT_SOCKET=f"{name}/file"), "something else than a socket is there: remove it$")

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to make a program of another user")
    def test_the_environment_of_a_set_user_id_program_is_its_callers(self):
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o755)
            program = shutil.copy("/bin/sleep", f"{name}/sleep")
            os.chmod(program, 0o4755)
            for path, user, ours in (("/bin/sleep", 0, True), ("/bin/sleep", NOBODY, False), (program, NOBODY, False)):
                with subprocess.Popen([path, "1000"], user=user, cwd="/") as process:
                    try:
                        while os.readlink(f"/proc/{process.pid}/exe") != os.path.realpath(path):
                            os.sched_yield()
                        self.assertEqual(processes.is_like_us(process.pid), ours, (path, user))
                    finally:
                        process.kill()

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to become another user")
    def test_a_process_cannot_call_itself_somebody_elses(self):
        code = r"""
open("/proc/self/comm", "wb").write(b"\rUid:\t0\t0\t0\t0")
print("ready", flush=True)
input()
"""
        with subprocess.Popen(
            ["/usr/bin/python3", "-I", "-c", code], user=NOBODY, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            self.assertEqual(processes.user_ids(process.pid), (NOBODY,) * 4)
            process.communicate(b"\n")


class Parts(unittest.TestCase):
    def test_names_that_a_setting_may_lead_to(self):
        for setting, name, fine in (
            ("/run/%p.app", "/run/7.app", True),
            ("/run/%p.app", "/run/7-2.app", True),
            ("/run/%p.app", "/run/7-.app", False),
            ("/run/%p.app", "/run/77.app", False),
            ("/run/%p.app", "/srv/run/7.app", False),
            ("/run/%p%p", "/run/7-127", True),
            ("/run/%p%p", "/run/7-12", False),
            ("/run/%h/%h.s", "/run/a.b/c.s", True),
            ("/run/%h/%h.s", "/run/a/b/c.s", False),
            ("/run/%h.s", "/run/.s", True),
            ("/run/%h.s", "/run/a.s.t", False),
            ("/run/%%h", "/run/%h", True),
            ("/run/%%h", "/run/x", False),
            ("/run/", "/run/7.sock", True),
            ("/run/", "/run/7-31.sock", True),
            ("/run/", "/run/8.sock", False),
            ("./run/s", "/srv/run/s", True),
            ("run/s", "/run/s", True),
            ("run/s", "/srun/s", False),
            ("./", "/srv/7.sock", True),
            ("s", "/srv/s", False),
            ("/run/a+b.*", "/run/a+b.*", True),
            ("/run/a+b.*", "/run/aab.c", False),
        ):
            self.assertEqual(processes.is_ours(name, 7, {"MEMLIMIT_SOCKET": setting}), fine, (setting, name))

    def test_a_setting_cannot_keep_the_tool_busy(self):
        # With a regular expression each %h took 17 times as long as those before it together.
        code = (
            f"import sys; sys.path.insert(0, {str(BUILD / 'scripts')!r})\n"
            "from memlimit_cli import processes\n"
            "name = '/' + 'a' * 107\n"
            "for setting in ('/' + '%h' * 100 + 'X', '/' + '%h' * 100_000 + 'X', '/' + '%p' * 100 + 'X'):\n"
            "    assert not processes.is_ours(name, 1, {'MEMLIMIT_SOCKET': setting})\n"
        )
        subprocess.run(["/usr/bin/python3", "-B", "-I", "-c", code], check=True, timeout=PATIENCE_S)

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
