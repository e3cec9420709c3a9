#!/usr/bin/env python3
"""The statistics socket of a real process: its life, crowds of clients, HTTP, and a real Prometheus.

Usage: socket_test.py BUILD_ROOT.
"""

import contextlib
import http.client
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
RUN = str(BUILD / "scripts" / "memlimit-run")
PATIENCE_S = 120  # for a machine that has much else to do; nothing is expected to take it
HELD_BYTES = 40_000_000
LIMIT_BYTES = 256 << 20
NOBODY = 65534

# A program that holds memory, allocates and frees as its standard input tells, and can fork and die.
PROGRAM = """
import os, select, sys
held = [bytes(100_000) for _ in range(400)]
print("ready", flush=True)
def lines():
    # As servers wait: what read() waits for is not seen (lib/service.md).
    while select.select([0], [], [])[0] and (line := sys.stdin.readline()):
        yield line
for line in lines():
    if line == "churn\\n":
        for _ in range(2000):
            bytes(100_000)
    if line == "fork\\n":
        parents_end, end = os.pipe()
        child = os.fork()
        if child == 0:
            held += [bytes(100_000) for _ in range(400)]
            os.close(end)
            os.read(parents_end, 1)
            sys.exit()
        print(child, flush=True)
        continue
    print("done", flush=True)
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


def connect(path):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(PATIENCE_S)
    try:
        client.connect(path)
    except OSError:
        client.close()
        raise
    return client


def read_all(client):
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts).decode()


def ask(path, request):
    with connect(path) as client:
        client.sendall(request.encode() + b"\n")
        return read_all(client)


def stat(path):
    return {key: int(value) for key, value in map(str.split, ask(path, "stat").splitlines())}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self):
        self.sock = connect(self.path)


def get(path, target, method="GET", **headers):
    connection = UnixConnection(path)
    connection.request(method, target, headers=headers)
    answer = connection.getresponse()
    with contextlib.closing(connection):
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


class Program:
    """PROGRAM under memlimit-run, with its socket up."""

    def __init__(self, setting, path=None, **environment):
        self.process = subprocess.Popen(
            [RUN, "-l", str(LIMIT_BYTES), "--", "/usr/bin/python3", "-I", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "MEMLIMIT_SOCKET": setting, **environment},
        )
        self.pid = self.process.pid
        self.path = (path or setting).replace("PID", str(self.pid))
        if self.process.stdout.readline() != "ready\n":
            raise AssertionError("the program did not come up")
        eventually("the socket answers", lambda: ask(self.path, "limit"))

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def rss_anon_kb(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
        return 0


class SocketTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="memlimit-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.path = f"{self.directory}/s"

    def program(self, *arguments, **environment):
        return self.enterContext(Program(*arguments, **environment))

    if not hasattr(unittest.TestCase, "enterContext"):  # Python before 3.11

        def enterContext(self, context):
            value = context.__enter__()
            self.addCleanup(context.__exit__, None, None, None)
            return value


class Life(SocketTest):
    def test_figures_are_those_of_the_process(self):
        program = self.program(self.path)
        figures = stat(self.path)
        self.assertEqual(figures["limit"], LIMIT_BYTES)
        self.assertGreater(figures["heap_alloc"], HELD_BYTES)
        self.assertGreaterEqual(figures["heap_peak"], figures["heap_alloc"])
        program.tell("churn")
        self.assertGreaterEqual(stat(self.path)["total_alloc"], figures["total_alloc"] + 200_000_000)
        status = dict(line.split(":\t", 1) for line in ask(self.path, "status").splitlines())
        self.assertEqual(status["Name"], "python3")
        self.assertEqual(int(status["Pid"]), program.pid)
        self.assertEqual(status["MemLimit"].strip(), f"{LIMIT_BYTES // 1024} kB")

    def heap_rows(self, path):
        """{name: [figures]} of the two tables of the file heap; a figure that is none is None."""
        lines = [line.split() for line in ask(path, "heap").splitlines()]
        begin = next(i for i, words in enumerate(lines) if words[0] == "thread")
        self.assertEqual(
            lines[0], ["class", "block", "live", "free", "cached", "spans", "purged", "live_bytes"]
        )
        self.assertEqual(lines[begin], ["thread", "held_bytes", "cached_bytes", "live_bytes"])
        tables = []
        for head, rows in ((lines[0], lines[1:begin]), (lines[begin], lines[begin + 1 :])):
            tables.append({})
            for name, *figures in rows:
                self.assertEqual(len(figures), len(head) - 1, name)
                tables[-1][name] = [None if figure == "-" else int(figure) for figure in figures]
        return tables

    def heap_at_rest(self, path):
        """The rows and the figures of one moment: nothing was allocated or freed from before to after."""
        before = stat(path)
        rows = self.heap_rows(path)
        after = stat(path)
        keys = ("total_alloc", "total_freed", "heap_cached", "heap_regions")
        return all(before[key] == after[key] for key in keys) and (*rows, after)

    def check_heap(self, path):
        classes, threads, figures = eventually("it is at rest", lambda: self.heap_at_rest(path))
        self.assertEqual(sum(row[6] or 0 for row in classes.values()), figures["heap_alloc"])
        self.assertEqual(sum(row[2] for row in threads.values()), figures["heap_alloc"])
        blocks = [row for name, row in classes.items() if name.startswith("block-")]
        self.assertEqual(sum(row[0] * row[2] for row in blocks), figures["heap_free"])
        self.assertEqual(sum(row[0] * row[3] for row in blocks), figures["heap_cached"])
        self.assertEqual(classes["large"][6], figures["heap_large"])
        self.assertEqual(classes["huge"][6], figures["heap_huge"])
        slices = figures["heap_spans"] + classes["large"][4] + classes["slices"][2]
        self.assertEqual(slices * 65536, figures["heap_regions"])
        return classes, threads

    def test_a_runtime_that_is_left_out_is_named(self):
        program = self.program(self.path, MEMLIMIT_ADAPTERS="ruby")
        self.assertIn("\nNotAsked:\tcpython (MEMLIMIT_ADAPTERS leaves it out)\n", ask(program.path, "status"))

    def test_a_runtime_that_is_asked_is_not(self):
        self.assertNotIn("NotAsked", ask(self.program(self.path).path, "status"))

    def test_heap_adds_up_to_the_byte_at_rest(self):
        program = self.program(f"{self.directory}/%p.sock", f"{self.directory}/PID.sock")
        classes, threads = self.check_heap(program.path)
        self.assertGreaterEqual(classes["large"][1], 400)
        self.assertGreater(classes["large"][6], HELD_BYTES)
        self.assertGreater(threads[f"thread-{program.pid}"][2], HELD_BYTES)
        program.tell("churn")
        self.check_heap(program.path)
        # What the child gives up of the parent's service thread is in no row and no sum.
        child_path = f"{self.directory}/{program.tell('fork')}.sock"
        eventually("the child's socket answers", lambda: ask(child_path, "limit"))
        eventually("the child is at rest", lambda: stat(child_path)["heap_alloc"] > 2 * HELD_BYTES)
        self.check_heap(child_path)

    def test_the_limit_is_changed_and_a_bad_value_leaves_it(self):
        self.program(self.path)
        self.assertEqual(ask(self.path, "limit=300MiB"), f"{300 << 20}\n")
        self.assertIn("512MiB", ask(self.path, "limit=512MB"))
        self.assertEqual(ask(self.path, "limit"), f"{300 << 20}\n")
        self.assertEqual(ask(self.path, "limit=off"), "off\n")

    def test_events_tell_of_a_new_limit(self):
        self.program(self.path)
        with connect(self.path) as client:
            client.sendall(b"events\n")
            lines = client.makefile()
            self.assertTrue(lines.readline().startswith("state level="))
            ask(self.path, "limit=300MiB")
            self.assertTrue(any("event=limit" in line for line in iter(lines.readline, "")))

    def test_the_file_is_private_and_gone_at_the_end(self):
        program = self.program(self.path)
        self.assertEqual(os.lstat(self.path).st_mode & 0o777, 0o600)
        self.assertEqual(program.end(), 0)
        self.assertFalse(os.path.lexists(self.path))

    def test_what_a_killed_process_left_is_swept_by_the_next(self):
        first = self.program(self.directory, f"{self.directory}/PID.sock")
        os.kill(first.pid, signal.SIGKILL)
        first.process.wait()
        left = f"{self.directory}/{first.pid}.sock"
        self.assertTrue(os.path.lexists(left))
        self.program(self.directory, f"{self.directory}/PID.sock")
        self.assertFalse(os.path.lexists(left))

    def test_the_child_of_a_fork_has_a_socket_of_its_own(self):
        program = self.program(f"{self.directory}/%p.sock", f"{self.directory}/PID.sock")
        child = program.tell("fork")
        child_path = f"{self.directory}/{child}.sock"
        eventually("the child's socket answers", lambda: ask(child_path, "limit"))
        self.assertIn(f"Pid:\t{child}\n", ask(child_path, "status"))
        self.assertIn(f"Pid:\t{program.pid}\n", ask(program.path, "status"))
        self.assertEqual(program.end(), 0)
        eventually("the child's socket is gone", lambda: not os.path.lexists(child_path))

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to become another user")
    def test_another_user_is_kept_out_unless_the_mode_says_so(self):
        os.chmod(self.directory, 0o755)
        program = self.program(self.path)
        opened = f"{self.directory}/open"
        other = self.program(opened, MEMLIMIT_SOCKET_MODE="0666")
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                with contextlib.suppress(PermissionError):
                    ask(program.path, "stat")
                    os._exit(2)
                readable = ask(opened, "limit") == f"{LIMIT_BYTES}\n"
                refused = ask(opened, "limit=1MiB").startswith("memlimit: not permitted")
                code = 0 if readable and refused else 3
            os._exit(code)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertEqual(ask(other.path, "limit"), f"{LIMIT_BYTES}\n")


class Crowds(SocketTest):
    def test_a_thousand_clients_of_every_bad_kind(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        program = self.program(self.path)
        ask(self.path, "metrics")
        before_kb = program.rss_anon_kb()
        crowd = []
        for number in range(1000):
            client = connect(self.path)
            crowd.append(client)
            client.setblocking(False)
            kind = number % 5
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                if kind == 1:
                    client.send(b"metr")
                if kind == 2:
                    client.send(b"metrics\n")  # and never reads
                if kind == 3:
                    client.send(b"x" * (1 << 20))
                if kind == 4:
                    client.send(b"GET /metrics HTTP/1.1\r\nA: b\r\n")
        self.assertEqual(ask(self.path, "limit"), f"{LIMIT_BYTES}\n")
        self.assertEqual(program.tell("churn"), "done")
        self.assertEqual(ask(self.path, "limit"), f"{LIMIT_BYTES}\n")
        # 64 slots: a page or two of request each, an answer only where the kernel did not take it.
        self.assertLess(program.rss_anon_kb() - before_kb, 10_000)
        for client in crowd:
            client.close()
        self.assertEqual(ask(self.path, "limit"), f"{LIMIT_BYTES}\n")

    def test_two_hundred_honest_clients_at_once(self):
        self.program(self.path)
        crowd = [connect(self.path) for _ in range(200)]
        for client in crowd:
            client.sendall(b"limit\n")
        for client in crowd:
            self.assertEqual(read_all(client), f"{LIMIT_BYTES}\n")
            client.close()


class Http(SocketTest):
    def test_every_file_is_served(self):
        self.program(self.path)
        for name in ("status", "stat", "hooks", "heap", "limit", "config", "ls", ""):
            code, content_type, body = get(self.path, f"/{name}")
            self.assertEqual((code, content_type), (200, "text/plain; charset=utf-8"), name)
            self.assertTrue(body, name)
        self.assertEqual(get(self.path, "/nope")[0], 404)
        self.assertEqual(get(self.path, "/limit", "POST")[0], 405)
        self.assertEqual(get(self.path, "/stat", "HEAD")[::2], (200, ""))
        self.assertEqual(get(self.path, "/stat", Cookie="x" * 5000)[0], 431)

    @unittest.skipUnless(shutil.which("curl"), "curl is not installed")
    def test_curl_reads_it(self):
        self.program(self.path)
        output = subprocess.run(
            ["curl", "-sS", "--fail", "--unix-socket", self.path, "http://localhost/stat"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        self.assertIn(f"limit {LIMIT_BYTES}\n", output)

    @unittest.skipUnless(shutil.which("promtool"), "promtool (package prometheus) is not installed")
    def test_promtool_finds_no_fault(self):
        self.program(self.path)
        for text in (ask(self.path, "metrics"), get(self.path, "/metrics")[2]):
            check = subprocess.run(
                ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
            )
            self.assertEqual((check.returncode, check.stdout, check.stderr), (0, "", ""))

    def test_openmetrics_is_served_to_who_asks_for_it(self):
        self.program(self.path)
        _, content_type, body = get(
            self.path, "/metrics", Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1"
        )
        self.assertEqual(
            content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8"
        )
        self.assertIn("# TYPE memlimit_rounds counter\n", body)
        self.assertTrue(body.endswith("# EOF\n"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@unittest.skipUnless(
    shutil.which("prometheus") and shutil.which("socat"), "prometheus or socat is not installed"
)
class Prometheus(SocketTest):
    def start(self, *command):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

    def query(self, expression):
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode(
            {"query": expression}
        )
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            result = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    def test_it_scrapes_through_a_forwarder_and_answers_queries(self):
        program = self.program(self.path)
        forwarder, self.port = free_port(), free_port()
        self.start(
            "socat", f"TCP-LISTEN:{forwarder},bind=127.0.0.1,fork,reuseaddr", f"UNIX-CONNECT:{self.path}"
        )
        config = pathlib.Path(self.directory, "prometheus.yml")
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            "  - job_name: memlimit\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{forwarder}']}}]\n"
        )
        self.start(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={self.directory}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )
        heap = eventually("a heap figure", lambda: self.query("memlimit_heap_alloc_bytes"))
        self.assertGreater(heap, HELD_BYTES)
        self.assertLess(heap, LIMIT_BYTES)
        self.assertEqual(self.query("memlimit_limit_bytes"), LIMIT_BYTES)
        self.assertEqual(self.query("up"), 1)
        self.assertEqual(self.query(f'memlimit_process_info{{pid="{program.pid}"}}'), 1)
        self.assertIsNotNone(self.query("memlimit_round_duration_seconds_count"))


if __name__ == "__main__":
    unittest.main()
