#!/usr/bin/env python3
"""The command `memlimit`: ps, stat, set, top, events, record, plot and doctor on a real process.

Usage: tool_test.py BUILD_ROOT.
"""

import contextlib
import fcntl
import io
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import unittest
import unittest.mock

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
TOOL = str(BUILD / "scripts" / "memlimit")
RUN = str(BUILD / "scripts" / "memlimit-run")
LIBRARY = str(BUILD / "preload" / "libmemlimit.so")

sys.dont_write_bytecode = True
sys.path.insert(0, str(BUILD / "scripts"))
from memlimit_cli import client, doctor, elf, processes, text, top  # noqa: E402

# As redis does, for a title of its own in ps.
FORGET = """
import ctypes
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
begin, end = map(int, fields[47:49])
ctypes.memset(begin, 0, end - begin)
"""

NOBODY = 65534
PATIENCE_S = 120  # for a machine that has much else to do; nothing is expected to take it

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
def holder(limit="64MiB", socket=None, first="", **settings):
    """A python3 that runs the code `first`, then holds 20 MB under memlimit until its standard input ends."""
    options = ["--socket", socket] if socket else []
    with subprocess.Popen(
        [RUN, "-l", limit, *options, "/usr/bin/python3", "-I", "-c", first + HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **settings},
    ) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise AssertionError("the program under memlimit did not come up")
            # Its socket is made by a thread of its own, which may not have run yet.
            while socket != "off" and processes.find_pid(process.pid).address is None:
                os.sched_yield()
            yield process
        finally:
            process.stdin.close()
            process.wait()


def hold_more(process, blocks):
    process.stdin.write(f"{blocks}\n")
    process.stdin.flush()
    process.stdout.readline()


def on_a_terminal(command, keys, enough):
    """Runs a command on a terminal of 80 x 24, types `keys` once enough(output) holds; its status and output."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        output = b""
        try:
            while select.select([leader], [], [], PATIENCE_S)[0]:
                output += os.read(leader, 65536)
                if keys and enough(output):
                    os.write(leader, keys)
                    keys = b""
        except OSError:
            pass  # EIO: the command has ended
        process.kill()
    os.close(leader)
    return process.returncode, output.decode()


@contextlib.contextmanager
def server(behave):
    """A socket in a directory of its own whose one client, after its request, is served by behave(connection)."""
    with tempfile.TemporaryDirectory() as name:
        path = f"{name}/s"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()

            def serve():
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(100)
                    behave(connection)

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield path
            finally:
                thread.join()


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def build_plugin(directory):
    """A shared object that leaves a file beside itself when it is loaded; skips where there is no compiler."""
    if shutil.which("gcc") is None:
        raise unittest.SkipTest("no gcc")
    source, plugin = f"{directory}/plugin.c", f"{directory}/plugin.so"
    code = f"""#include <fcntl.h>
__attribute__((constructor)) static void enter(void) {{ open("{directory}/loaded", O_CREAT | O_WRONLY, 0600); }}
"""
    pathlib.Path(source).write_text(code, encoding="utf-8")
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", plugin], check=True)
    return plugin


def as_nobody(copy, *arguments):
    """The tool as another user; `copy` is a directory that this user may read."""
    return subprocess.run(
        ["/usr/bin/python3", f"{copy}/memlimit", *arguments],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


class Looks(unittest.TestCase):
    def test_ps_lists_a_process_with_its_limit(self):
        with holder() as process:
            lines = tool("ps").stdout.splitlines()
            self.assertEqual(lines[0].split(), ["PID", "NAME", "HEAP", "LIMIT", "USE", "LEVEL", "RSS", "ROUNDS"])
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

    def test_top_prints_a_plain_picture_when_nobody_watches(self):
        with holder() as process:
            result = tool("top")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertNotIn("\x1b", result.stdout)
            self.assertTrue(all(len(line) <= 80 for line in result.stdout.splitlines()))
            self.assertIn(str(process.pid), result.stdout)

    def test_top_on_a_terminal_has_colours_and_leaves_it_as_it_was(self):
        with holder() as process:
            pid = str(process.pid).encode()
            # Two pictures: the second is drawn over the first.
            status, output = on_a_terminal(
                ["/usr/bin/python3", TOOL, "top", "-d", "0.05"], b"q", lambda seen: seen.count(pid) >= 2
            )
        self.assertEqual(status, 0, output)
        self.assertTrue(output.startswith("\x1b[?1049h\x1b[?25l\x1b[H\x1b[J"))
        self.assertTrue(output.endswith("\x1b[?25h\x1b[?1049l"))
        self.assertIn("█", output)
        self.assertIn("\x1b[3", output)
        self.assertIn("RSS", output)

    def test_top_where_no_blocks_can_be_shown(self):
        with holder() as process:
            hold_more(process, 300)
            lines = tool("top", PYTHONIOENCODING="ascii").stdout.splitlines()
            (line,) = [line for line in lines if line.split()[:1] == [str(process.pid)]]
            self.assertIn("###", line)

    def test_top_fits_the_terminal_whatever_the_figures(self):
        figures = dict.fromkeys(("heap_alloc", "rss_anon", "paced"), 2**63 - 1) | {"limit": 1, "level": 3}
        found = [top.Row(processes.Process(4194304 - n, "n" * 15, "s"), figures) for n in range(100)]
        found.append(top.Row(processes.Process(1, "small", None), {}))
        with unittest.mock.patch.object(top, "rows", lambda which: found):
            lines = top.frame(False, top.Rates(), 23)
        self.assertEqual(len(lines), 23)
        self.assertEqual(lines[-1], "... and 82 more")
        # TiB are the largest unit: a process would need 10,000 of them to spoil its own line.
        figures = dict.fromkeys(("heap_alloc", "rss_anon", "paced", "limit"), 9999 << 40) | {"level": 1}
        found = [top.Row(processes.Process(4194304, "n" * 15, "s"), figures)]
        with unittest.mock.patch.object(top, "rows", lambda which: found):
            self.assertTrue(all(len(line) <= 80 for line in top.frame(False, top.Rates())))

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
            self.assertEqual((result.returncode, result.stderr), (0, ""))
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
                    lines = tool("ps").stdout.splitlines()
                    self.assertEqual(len([line for line in lines if line.split()[0] == str(process.pid)]), 1)
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
            self.assertRegex(said, r"^memlimit: \d+ samples in .* in .*/r\n$")

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
        recording = "time\theap_alloc\n0.0\t1\n0.1\t2\n0.2"
        with tempfile.TemporaryDirectory() as name:
            path = pathlib.Path(name, "r")
            path.write_text(recording, encoding="utf-8")
            result = tool("plot", str(path), "-o", f"{name}/r.png", "--against", str(path))
            if "matplotlib" not in result.stderr:
                self.assertIn("2 samples", result.stdout, result.stderr)
            path.write_text(recording + "\t3\n0.3\tmuch\n", encoding="utf-8")
            self.assertIn("r:5: much is not a number", tool("plot", str(path), "-o", f"{name}/r.png").stderr)

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

    def test_doctor_knows_a_program_with_a_malloc_of_its_own(self):
        result = tool("doctor", "--", str(BUILD / "tests" / "preload" / "preload_program_malloc_wins"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("has a malloc of its own", result.stdout)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to make a program of another user")
    def test_doctor_knows_a_set_user_id_program(self):
        with tempfile.TemporaryDirectory() as name:
            program = shutil.copy("/bin/true", f"{name}/true")
            os.chown(program, NOBODY, NOBODY)
            os.chmod(program, 0o4755)
            result = tool("doctor", "--", program)
            self.assertEqual(result.returncode, 1)
            self.assertIn("set-user-ID: for such programs the loader ignores LD_PRELOAD", result.stdout)

    def test_doctor_misses_libmimalloc(self):
        with tempfile.TemporaryDirectory() as name:
            shutil.copytree(BUILD / "scripts", f"{name}/scripts")
            os.mkdir(f"{name}/preload")
            # The same library, asking for a libmimalloc that is nowhere.
            library = (BUILD / "preload" / "libmemlimit.so").read_bytes()
            self.assertIn(b"libmimalloc.so", library)
            pathlib.Path(name, "preload", "libmemlimit.so").write_bytes(library.replace(b"libmimalloc.so", b"libmimalloc.no"))
            result = subprocess.run(
                ["/usr/bin/python3", f"{name}/scripts/memlimit", "doctor"], capture_output=True, text=True, check=False
            )
            self.assertEqual(result.returncode, 1)
            self.assertIn("libmimalloc is missing: apt install", result.stdout)

    def test_doctor_shows_settings_on_one_line(self):
        with tempfile.TemporaryDirectory() as name:
            with holder(MEMLIMIT_LOG=f"warn:{name}/a\nbad   \x1b[2J") as process:
                result = tool("doctor", "-p", str(process.pid))
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertIn(f"MEMLIMIT_LOG=warn:{name}/a?bad   ?[2J", result.stdout)

    def test_doctor_asks_a_process_that_overwrote_its_environment(self):
        with holder(limit="64MiB", first=FORGET, MEMLIMIT_START="40%") as process:
            result = tool("doctor", "-p", str(process.pid))
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertRegex(result.stdout, r"settings: MEMLIMIT=64MiB .*MEMLIMIT_START=40%")
            self.assertNotIn("no MEMLIMIT variable", result.stdout)

    def test_doctor_names_a_bad_setting_that_was_overwritten(self):
        command = ["/usr/bin/python3", "-I", "-c", FORGET + HOLDER]
        settings = {"LD_PRELOAD": str(BUILD / "preload" / "libmemlimit.so"), "MEMLIMIT": "64MB", "MEMLIMIT_REPORT": "1000"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env={"PATH": "/usr/bin:/bin", **settings}, **pipes) as process:
            process.stdout.readline()
            while processes.find_pid(process.pid).address is None:
                os.sched_yield()
            result = tool("doctor", "-p", str(process.pid))
            process.communicate()
        self.assertEqual(result.returncode, 1)
        self.assertIn("MEMLIMIT=64MB is a bad setting", result.stdout)

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

    def test_doctor_takes_the_socket_of_a_running_process_for_good(self):
        with tempfile.TemporaryDirectory() as name, holder(socket=f"{name}/s") as process:
            result = tool("doctor", "-p", str(process.pid))
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertIn(f"MEMLIMIT_SOCKET={name}/s", result.stdout)

    def test_doctor_says_when_settings_cannot_be_seen(self):
        with holder(socket="off", first=FORGET) as process:
            result = tool("doctor", "-p", str(process.pid))
            self.assertIn("its settings cannot be seen: it wrote over its environment", result.stdout)
            self.assertNotIn("no MEMLIMIT variable", result.stdout)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to become another user")
    def test_doctor_tries_out_no_file_that_another_user_names(self):
        settings = {
            "MEMLIMIT": "1B",  # as tight as can be, so that a service would start at once
            "MEMLIMIT_START": "40%",
            "MEMLIMIT_PLUGINS": "PLUGIN",
            "MEMLIMIT_SOCKET": "DIR/socket",
            "MEMLIMIT_LOG": "debug:DIR/log",
        }
        tried = []

        def probe(library, environment):
            tried.append(environment)
            return 0, ""

        with tempfile.TemporaryDirectory() as name:
            plugin = build_plugin(name)
            settings = {key: value.replace("DIR", name).replace("PLUGIN", plugin) for key, value in settings.items()}
            for user, said in ((NOBODY, True), (None, False)):
                with subprocess.Popen(["/bin/sleep", "1000"], env=settings, user=user, cwd="/") as process:
                    try:
                        while not pathlib.Path(f"/proc/{process.pid}/environ").read_bytes().startswith(b"MEMLIMIT="):
                            os.sched_yield()
                        result = tool("doctor", "-p", str(process.pid))
                        with unittest.mock.patch.object(doctor, "probe", probe), quiet():
                            doctor.doctor(process.pid, [])
                    finally:
                        process.kill()
                self.assertEqual(sorted(os.listdir(name)), ["plugin.c", "plugin.so"])
                self.assertIn("MEMLIMIT_START=40%", result.stdout, result.stderr)
                self.assertEqual("files are not looked for on behalf of another user" in result.stdout, said, result.stdout)
        # Each time the library is tried by itself first.
        self.assertEqual(len(tried), 4)
        plain = {key: settings[key] for key in ("MEMLIMIT", "MEMLIMIT_START")}
        self.assertEqual(tried[1], {"PATH": "/usr/bin:/bin", "MEMLIMIT_LOG": "debug", **plain})
        self.assertEqual(tried[3], {"PATH": "/usr/bin:/bin", **settings})

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

    def test_doctor_on_a_running_process(self):
        with holder() as process:
            self.assertEqual(tool("doctor", "-p", str(process.pid)).returncode, 0)
        result = tool("doctor", "-p", str(os.getpid()))
        self.assertEqual(result.returncode, 1)
        self.assertIn("without LD_PRELOAD", result.stdout)


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
