#!/usr/bin/env python3
"""`memlimit exporter`: real processes and false ones, scraped by hand and by a real Prometheus.

Usage: exporter_test.py SOURCE_ROOT BUILD_ROOT.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

SOURCE, BUILD = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
TOOL = str(BUILD / "scripts" / "memlimit")
RUN = str(BUILD / "scripts" / "memlimit-run")
FOLDER = SOURCE / "scripts" / "prometheus"
LIMIT_BYTES = 96 << 20
HELD_BYTES = 20_000_000
PATIENCE_S = 120  # for a machine that has much else to do; nothing is expected to take it

sys.dont_write_bytecode = True
sys.path.insert(0, str(BUILD / "scripts"))
from memlimit_cli import exposition, text  # noqa: E402

HOLDER = f"""
import sys
held = [bytes(100_000) for _ in range({HELD_BYTES // 100_000})]
print("ready", flush=True)
sys.stdin.read()
"""

TRUE_METRICS = """# HELP memlimit_process_info Always 1.
# TYPE memlimit_process_info gauge
memlimit_process_info{name="made up",pid="7",account="heap"} 1
# HELP memlimit_rounds_total Rounds.
# TYPE memlimit_rounds_total counter
memlimit_rounds_total 3
# EOF
"""


def eventually(what, condition):
    deadline = time.monotonic() + PATIENCE_S
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE_S} s for {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, **options):
    with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=PATIENCE_S) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def samples(body, name):
    """{(label, value) pairs: number} of one metric."""
    found = {}
    for labels, value in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", body, re.M):
        found[frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels))] = float(value)
    return found


def one(body, metric, /, **labels):
    """The number of the one sample that has these labels, or None."""
    wanted = {(key, str(value)) for key, value in labels.items()}
    found = [value for have, value in samples(body, metric).items() if wanted <= have]
    if len(found) > 1:
        raise AssertionError(f"{metric}{labels}: {len(found)} samples")
    return found[0] if found else None


class ExporterTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="memlimit-exporter-")
        self.addCleanup(shutil.rmtree, self.directory)

    def exporter(self, *arguments):
        """Its address, once it serves."""
        process = subprocess.Popen(
            ["/usr/bin/python3", TOOL, "exporter", "--port=0", *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        line = process.stderr.readline()
        found = re.fullmatch(r"memlimit: exporter: serving (http://\S+)/metrics\n", line)
        self.assertIsNotNone(found, line)
        self.process = process
        return found[1]

    def program(self):
        """A python3 under memlimit that holds 20 MB; ended at the end of the test, or by closing its standard input."""
        place = f"--socket={self.directory}/%p.sock"
        process = subprocess.Popen(
            [RUN, f"--limit={LIMIT_BYTES}", place, "/usr/bin/python3", "-I", "-c", HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "ready\n")
        eventually("its socket", lambda: os.path.exists(f"{self.directory}/{process.pid}.sock"))
        return process

    def false_process(self, name, answer):
        """A server on a socket of this name that says `answer` to each client, or nothing at all if that is None."""
        path = f"{self.directory}/{name}.false"
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.bind(path)
        server.listen(8)
        held = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client = server.accept()[0]
                    if answer is None:
                        held.append(client)
                        continue
                    with client, contextlib.suppress(OSError):
                        client.recv(100)
                        client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return path


class Scrape(ExporterTest):
    def test_every_process_is_there_with_its_labels(self):
        programs = [self.program(), self.program()]
        _, content_type, body = get(self.exporter() + "/metrics")
        self.assertEqual(content_type, "text/plain; version=0.0.4; charset=utf-8")
        for program in programs:
            who = {"pid": program.pid, "name": "python3"}
            self.assertEqual(one(body, "memlimit_up", **who), 1)
            self.assertEqual(one(body, "memlimit_limit_bytes", **who), LIMIT_BYTES)
            self.assertGreater(one(body, "memlimit_heap_alloc_bytes", **who), HELD_BYTES)
            self.assertEqual(one(body, "memlimit_process_info", account="rss", **who), 1)
            self.assertIsNotNone(one(body, "memlimit_by_hook_calls_total", hook="cpython", **who))
            self.assertIsNotNone(one(body, "memlimit_round_duration_seconds_bucket", le="+Inf", **who))
        # Each family once, its samples together.
        heads = re.findall(r"^# TYPE (\S+)", body, re.M)
        self.assertEqual(len(heads), len(set(heads)))

    def test_nothing_remains_of_a_process_that_has_ended(self):
        program, stays = self.program(), self.program()
        address = self.exporter()
        self.assertEqual(one(get(address + "/metrics")[2], "memlimit_up", pid=program.pid), 1)
        program.kill()
        program.wait()
        body = get(address + "/metrics")[2]
        self.assertNotIn(f'pid="{program.pid}"', body)
        self.assertEqual(one(body, "memlimit_up", pid=stays.pid), 1)

    def test_a_process_that_hangs_costs_its_own_series_alone(self):
        stopped, runs = self.program(), self.program()
        address = self.exporter("--timeout=2")
        stopped.send_signal(signal.SIGSTOP)
        try:
            body = get(address + "/metrics")[2]
        finally:
            stopped.send_signal(signal.SIGCONT)
        self.assertEqual(one(body, "memlimit_up", pid=stopped.pid), 0)
        self.assertIsNone(one(body, "memlimit_heap_alloc_bytes", pid=stopped.pid))
        self.assertEqual(one(body, "memlimit_up", pid=runs.pid), 1)
        self.assertGreaterEqual(one(body, "memlimit_exporter_errors_total", reason="silent"), 1)
        eventually("it answers again", lambda: one(get(address + "/metrics")[2], "memlimit_up", pid=stopped.pid) == 1)

    def test_sockets_outside_of_proc(self):
        program = self.program()
        good = self.false_process("good", TRUE_METRICS.encode())
        silent = self.false_process("silent", None)
        refuses = self.false_process("refuses", b"memlimit: not permitted\n")
        malformed = self.false_process("malformed", b"HTTP/1.1 200 OK\r\n\r\n")
        cut = self.false_process("cut", TRUE_METRICS.removesuffix("# EOF\n").encode())
        endless = self.false_process("endless", b"x" * (2 << 20))
        left = f"{self.directory}/left.false"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(left)
        pathlib.Path(self.directory, "no_socket.false").write_text("")
        patterns = [f"--socket={self.directory}/*.false", f"--socket={self.directory}/*.sock"]
        address = self.exporter("--timeout=2", *patterns)
        body = get(address + "/metrics")[2]
        self.assertEqual(one(body, "memlimit_rounds_total", pid=7, name="made up", socket=good), 3)
        for path in (silent, refuses, malformed, cut, endless):
            with self.subTest(path):
                self.assertEqual(one(body, "memlimit_up", socket=path), 0)
        # Asked once, though both /proc and a pattern have it; by the pid that /proc has.
        self.assertEqual(samples(body, "memlimit_up")[frozenset({("pid", str(program.pid)), ("name", "python3")})], 1)
        for path in (left, "no_socket", f"{program.pid}.sock"):
            self.assertNotIn(path, body)
        self.assertEqual(one(body, "memlimit_exporter_errors_total", reason="malformed"), 3)
        self.assertGreaterEqual(one(body, "memlimit_exporter_errors_total", reason="refused"), 1)

    @unittest.skipUnless(shutil.which("promtool"), "promtool (package prometheus) is not installed")
    def test_promtool_finds_no_fault(self):
        self.program()
        self.false_process("silent", None)
        body = get(self.exporter("--timeout=2", f"--socket={self.directory}/*.false") + "/metrics")[2]
        check = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, text=True, check=False)
        self.assertEqual((check.returncode, check.stdout, check.stderr), (0, "", ""))


class Http(ExporterTest):
    def test_pages(self):
        address = self.exporter()
        self.assertIn("/metrics", get(address + "/")[2])
        self.assertEqual(get(address + "/-/healthy")[2], "ok\n")
        self.assertEqual(get(address + "/metrics", method="HEAD")[2], "")
        for path, method, status in (("/nothing", "GET", 404), ("/metrics", "POST", 501)):
            with self.assertRaises(urllib.error.HTTPError) as raised:
                get(address + path, method=method)
            self.assertEqual(raised.exception.code, status)
            raised.exception.close()

    def test_clients_that_say_nothing_keep_nobody_out(self):
        address = self.exporter()
        host, port = urllib.parse.urlparse(address).hostname, urllib.parse.urlparse(address).port
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(socket.create_connection((host, port), timeout=PATIENCE_S))
            self.assertEqual(get(address + "/-/healthy")[2], "ok\n")

    def test_it_listens_at_the_loopback_alone(self):
        self.assertTrue(self.exporter().startswith("http://127.0.0.1:"))

    def test_another_address_is_said_to_be_open(self):
        self.exporter("--address=0.0.0.0")
        self.assertIn("can read the figures", self.process.stderr.readline())

    def test_it_ends_when_told_to(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            address = self.exporter()
            get(address + "/-/healthy")
            self.process.send_signal(number)
            self.assertEqual(self.process.wait(), 0)
            self.assertEqual(self.process.stderr.read(), "")

    def test_what_cannot_be_is_said_in_one_line(self):
        port = urllib.parse.urlparse(self.exporter()).port
        usage = (2, 64)
        for arguments, statuses, says in (
            ([f"--port={port}"], (1,), f"memlimit: cannot listen on 127.0.0.1 port {port}: Address already in use\n"),
            (["--address=256.0.0.1"], (1,), "memlimit: cannot listen on 256.0.0.1 port 9911: "),
            (["--port=65536"], usage, "argument --port: 65536 is not between 0 and 65535\n"),
            (["--timeout=0"], usage, "argument --timeout: 0 is not a time\n"),
        ):
            with self.subTest(arguments):
                command = ["/usr/bin/python3", TOOL, "exporter", *arguments]
                result = subprocess.run(command, capture_output=True, text=True, check=False)
                self.assertEqual(result.stdout, "")
                self.assertIn(result.returncode, statuses)
                self.assertIn(says, result.stderr)


class Exposition(unittest.TestCase):
    """What a process may say that is not memlimit."""

    HEAD = "# HELP memlimit_x A sentence.\n# TYPE memlimit_x gauge\n"

    def told(self, body):
        out = exposition.Exposition()
        out.add(exposition.parse(body), {"pid": 1, "name": 'a "name"\\\n'})
        return out.text().splitlines()

    def test_labels_of_the_exporters_are_the_exporters(self):
        lines = self.told(self.HEAD + 'memlimit_x{pid="2",hook="a,b=\\"c\\"",name="b",socket="/s"} 4\n# EOF\n')
        self.assertEqual(lines[-1], 'memlimit_x{pid="1",name="a \\"name\\"\\\\\\n",hook="a,b=\\"c\\""} 4')

    def test_a_histogram_keeps_its_parts_together(self):
        body = "# TYPE memlimit_t_seconds histogram\n" + "".join(
            f"memlimit_t_seconds_{part}\n" for part in ('bucket{le="0.1"} 1', 'bucket{le="+Inf"} 2', "sum 0.5", "count 2")
        )
        self.assertEqual(self.told(body + "# EOF\n")[2], 'memlimit_t_seconds_bucket{pid="1",name="a \\"name\\"\\\\\\n",le="0.1"} 1')

    def test_what_prometheus_would_refuse_is_refused(self):
        for line in (
            'memlimit_x{a="1",a="2"} 4',
            "memlimit_x 1e999",
            "memlimit_x 1.2.3",
            "memlimit_x 0x10",
            "memlimit_x",
            "memlimit_x 1 1700000000",
            'memlimit_x{a="1} 4',
            'memlimit_x{a="\\q"} 4',
            "memlimit_y 4",
            "up 1",
            "memlimit_x_bucket 4",
            "# TYPE memlimit_up gauge",
            "# TYPE memlimit_exporter_processes gauge",
            "# TYPE memlimit_x summary",
            "",
        ):
            with self.subTest(line), self.assertRaises(text.UserError):
                exposition.parse(f"{self.HEAD}{line}\n# EOF\n")

    def test_a_family_has_one_head(self):
        out = exposition.Exposition()
        out.add(exposition.parse(self.HEAD + "memlimit_x 1\n# EOF\n"), {"pid": 1})
        out.add(exposition.parse("# TYPE memlimit_x counter\nmemlimit_x 2\n# EOF\n"), {"pid": 2})
        expected = ["# HELP memlimit_x A sentence.", "# TYPE memlimit_x gauge", 'memlimit_x{pid="1"} 1', 'memlimit_x{pid="2"} 2']
        self.assertEqual(out.text().splitlines(), expected)


def dashboard_queries():
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def metrics_named(expressions):
    return {name for text_of in expressions for name in re.findall(r"\bmemlimit_[a-z_]+", text_of)}


class Files(ExporterTest):
    RULES = (FOLDER / "memlimit.rules.yml").read_text(encoding="utf-8")

    def test_rules_and_dashboard_name_metrics_that_are_served(self):
        self.program()
        body = get(self.exporter() + "/metrics")[2]
        served = set(re.findall(r"^(memlimit_\w+)", body, re.M))
        expressions = re.findall(r"^ +expr: (.*)$", self.RULES, re.M)
        self.assertGreater(len(expressions), 8)
        self.assertEqual(metrics_named(expressions) - served, set())
        self.assertGreater(len(dashboard_queries()), 20)
        self.assertEqual(metrics_named(dashboard_queries()) - served, set())
        readme = (FOLDER / "README.md").read_text(encoding="utf-8")
        self.assertEqual(metrics_named(re.findall(r"`([^`]+)`", readme)) - served, set())

    def test_the_readme_has_every_alert(self):
        told = re.findall(r"^\| `(\w+)` \|", (FOLDER / "README.md").read_text(encoding="utf-8"), re.M)
        alerts = re.findall(r"^ +- alert: (\w+)$", self.RULES, re.M)
        self.assertEqual([name for name in told if name.startswith("Memlimit")], alerts)

    def test_panels_do_not_overlap(self):
        board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
        taken, numbers = set(), set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            taken |= cells
            numbers.add(panel["id"])
        self.assertEqual(len(numbers), len(board["panels"]))

    @unittest.skipUnless(shutil.which("promtool"), "promtool (package prometheus) is not installed")
    def test_promtool_accepts_the_rules_and_their_tests_pass(self):
        for command in (["check", "rules", "memlimit.rules.yml"], ["test", "rules", "memlimit.rules.test.yml"]):
            result = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)


@unittest.skipUnless(shutil.which("prometheus"), "prometheus (scripts/setup --all) is not installed")
class Prometheus(ExporterTest):
    def start_prometheus(self, target):
        self.port = free_port()
        config = pathlib.Path(self.directory, "prometheus.yml")
        config.write_text(
            "global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}\n"
            f"rule_files: ['{FOLDER}/memlimit.rules.yml']\n"
            "scrape_configs:\n"
            "  - job_name: memlimit\n"
            f"    static_configs: [{{targets: ['{target}']}}]\n",
            encoding="utf-8",
        )
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self.directory}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

    def query(self, expression):
        """The first value, or None; AssertionError for a query that is none."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            result = json.loads(get(url)[2])["data"]["result"]
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 503:
                    return None  # it has not come up
                raise AssertionError(f"{expression}: {error.read().decode()}") from error
        except urllib.error.URLError:
            return None  # it does not even listen
        return float(result[0]["value"][1]) if result else None

    def test_it_scrapes_and_answers_queries(self):
        program, ends = self.program(), self.program()
        address = self.exporter("--timeout=1")
        self.start_prometheus(urllib.parse.urlparse(address).netloc)
        who = f'{{pid="{program.pid}", name="python3"}}'
        heap = eventually("a heap figure", lambda: self.query(f"memlimit_heap_alloc_bytes{who}"))
        self.assertGreater(heap, HELD_BYTES)
        self.assertLess(heap, LIMIT_BYTES)
        # A scrape may come late on a busy machine, and then has no figures: the next one has.
        for expression, value in (
            (f"memlimit_limit_bytes{who}", LIMIT_BYTES),
            ('up{job="memlimit"}', 1),
            (f"memlimit_up{who}", 1),
        ):
            eventually(f"{expression} to be {value}", lambda: self.query(expression) == value)
        ratio = eventually("the recording rule", lambda: self.query(f"memlimit:use:ratio{who}"))
        self.assertTrue(0.1 < ratio < 1, ratio)

        series = f'memlimit_heap_alloc_bytes{{pid="{ends.pid}"}}'
        eventually("the other's figure", lambda: self.query(series))
        ends.kill()
        ends.wait()
        eventually("its end", lambda: self.query(series) is None)
        eventually("the first one's still", lambda: self.query(f"memlimit_heap_alloc_bytes{who}"))

        program.send_signal(signal.SIGSTOP)
        try:
            eventually("memlimit_up 0", lambda: self.query(f"memlimit_up{who}") == 0)
            eventually("the scrape itself", lambda: self.query('up{job="memlimit"}') == 1)
            eventually("the alert", lambda: self.query(f'ALERTS{{alertname="MemlimitProcessSilent", pid="{program.pid}"}}'))
        finally:
            program.send_signal(signal.SIGCONT)

        for expression in dashboard_queries():
            for variable, value in (("$instance", ".*"), ("$name", ".*"), ("$pid", ".*"), ("$__rate_interval", "1m")):
                expression = expression.replace(variable, value)
            self.query(expression)  # that it is one: what it finds depends on the moment


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
