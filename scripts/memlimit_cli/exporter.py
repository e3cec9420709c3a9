"""`memlimit exporter`: the metrics of every process under the library on one port, for Prometheus.

A scrape looks for the processes, asks all of them at once and puts together what has come when the time is over. A
process that hangs, ends or talks nonsense costs its own series and nothing else. Nothing is kept between two scrapes
but the list of processes and the counters of errors: a series ends with its process.
"""

from __future__ import annotations  # Python 3.9

import argparse
import collections
import contextlib
import dataclasses
import glob
import http.server
import os
import resource
import selectors
import signal
import socket
import stat
import sys
import threading
import time

from . import client, exposition, processes
from .text import UserError, printable

SUMMARY = "the metrics of every process on one port, for Prometheus"
DEFAULT_ADDRESS = "127.0.0.1"
DEFAULT_PORT = 9911
DEFAULT_TIMEOUT_S = 3.0
CLIENT_TIMEOUT_S = 10.0  # of an HTTP client that says nothing, or takes nothing
MAX_CLIENTS = 16
REQUEST = b"metrics\n"
GONE = (TypeError, AttributeError)  # of what is read of a process whose files have just become empty
# Why a process has no figures in a scrape, as the counter of errors tells it.
REASONS = ("silent", "refused", "malformed")


@dataclasses.dataclass
class Target:
    """A process that is asked; one that is known by its socket alone has a label for that."""

    process: processes.Process
    started: str | None  # what tells it from a later process of the same pid; None: known by its socket alone
    socket_label: str | None = None

    def labels(self):
        labels = {} if self.socket_label is None else {"socket": self.socket_label}
        if self.process.pid:
            labels = {"pid": self.process.pid, "name": self.process.name, **labels}
        return labels

    def has_ended(self):
        return self.started is not None and start_of(self.process.pid) != self.started


def start_of(pid):
    """When a process was started, in the kernel's own count; None when there is no such process."""
    try:
        fields = processes.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Finder:
    """The processes to ask. Looking for them reads all of /proc, which may take longer than a scrape may: then the scrape
    goes on with what was found before, and the search for the next one goes on."""

    def __init__(self, patterns):
        self.patterns = patterns
        self.condition = threading.Condition()
        self.searching = False
        self.searches = 0
        self.found = []

    def find(self, deadline):
        with self.condition:
            if not self.searching:
                self.searching = True
                threading.Thread(target=self.search, daemon=True).start()
            number = self.searches
            self.condition.wait_for(lambda: self.searches != number, max(deadline - time.monotonic(), 0))
            return list(self.found)

    def search(self):
        found = []
        try:
            for target in self.targets():
                found.append(target)
        finally:
            # Whatever went wrong: what was found counts, and the next scrape looks again.
            with self.condition:
                self.found, self.searching = found, False
                self.searches += 1
                self.condition.notify_all()

    def targets(self):
        seen = set()
        for pid in processes.all_pids():
            started = start_of(pid)
            if started is None or (process := look(pid)) is None:
                continue
            if process.address is not None:
                seen.add(identity(process.address))
            yield Target(process, started)
        for pattern in self.patterns:
            for path in sorted(glob.glob(pattern)):
                if is_socket(path) and identity(path) not in seen:
                    seen.add(identity(path))
                    yield Target(processes.Process(0, path, path, by_address=True), None, path)


def look(pid):
    """The process, if it is under the library and this user may see it."""
    with contextlib.suppress(OSError, *GONE):
        try:
            if processes.is_under(pid):
                return processes.Process(pid, processes.name_of(pid), processes.address_of(pid))
        except PermissionError:
            if address := processes.open_to_us(pid):
                return processes.Process(pid, processes.name_of(pid), address)
    return None


def is_socket(path):
    with contextlib.suppress(OSError):
        return stat.S_ISSOCK(os.stat(path).st_mode)
    return False


def identity(address):
    """Of the socket's file, whichever path leads there."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(address)
        return status.st_dev, status.st_ino
    return address


class Failure(Exception):
    """A process has no figures in this scrape."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


class Ended(Exception):
    """There is nobody (any more): no series, and no failure either."""


@dataclasses.dataclass
class Question:
    """One target while it is asked."""

    target: Target
    sock: socket.socket
    answer: bytearray


class Round:
    """All targets asked at once, without a thread for each: until all have answered, or the time is over."""

    def __init__(self, targets, deadline):
        self.deadline = deadline
        self.results = {}  # index of the target: families, Failure or Ended
        self.targets = targets
        self.selector = selectors.DefaultSelector()

    def run(self):
        """[(target, families or Failure)], without those that have ended."""
        with contextlib.ExitStack() as stack, self.selector:
            for number, target in enumerate(self.targets):
                try:
                    sock = stack.enter_context(client.connect(target.process.address, timeout_s=0))
                    target.process.check_peer(sock)
                    # A server that refuses may have hung up already; what it said can still be read.
                    with contextlib.suppress(BrokenPipeError):
                        sock.sendall(REQUEST)
                    self.selector.register(sock, selectors.EVENT_READ, (number, Question(target, sock, bytearray())))
                except (OSError, ValueError, UserError, *GONE) as error:
                    self.results[number] = self.judge(target, error)
            self.collect()
        for number, target in enumerate(self.targets):
            self.results.setdefault(number, Failure("silent"))
            if not isinstance(self.results[number], dict) and target.has_ended():
                self.results[number] = Ended()
        return [(t, self.results[n]) for n, t in enumerate(self.targets) if not isinstance(self.results[n], Ended)]

    def judge(self, target, error):
        """What an error on the way to a process says of it."""
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)) and target.started is None:
            return Ended()  # a file that a process left behind
        return Failure("silent" if isinstance(error, (BlockingIOError, TimeoutError)) else "refused")

    def collect(self):
        while self.selector.get_map():
            left = self.deadline - time.monotonic()
            ready = self.selector.select(max(left, 0))
            for key, _ in ready:
                number, question = key.data
                try:
                    done = self.take(question)
                except OSError as error:
                    done, self.results[number] = True, self.judge(question.target, error)
                except Failure as failure:
                    done, self.results[number] = True, failure
                else:
                    if done:
                        self.results[number] = self.read(question)
                if done:
                    self.selector.unregister(key.fileobj)
            if left <= 0:
                return

    @staticmethod
    def take(question):
        """One part of an answer; whether it was the last."""
        part = question.sock.recv(65536)
        question.answer += part
        if len(question.answer) > client.MAX_ANSWER_BYTES:
            raise Failure("malformed")
        return not part

    @staticmethod
    def read(question):
        text = printable(question.answer.decode(errors="replace"), keep="\n")
        try:
            client.check(text)
        except UserError:
            return Failure("refused")
        try:
            families = exposition.parse(text)
            if question.target.started is None:
                own = exposition.process_labels(families)
                question.target.process.pid, question.target.process.name = int(own["pid"]), own["name"]
            return families
        except UserError:
            # Whoever hangs up without a word has no time left to answer, or no room for another client.
            return Failure("malformed" if text else "silent")


class Exporter:
    def __init__(self, timeout_s, patterns, version):
        self.timeout_s = timeout_s
        self.version = version
        self.finder = Finder(patterns)
        self.lock = threading.Lock()
        self.errors = collections.Counter()
        self.scrapes = 0

    def scrape(self):
        """The text of one scrape. One at a time: two would ask every process twice."""
        with self.lock:
            began = time.monotonic()
            targets = self.finder.find(began + self.timeout_s / 2)
            asked = [target for target in targets if target.process.address is not None]
            without = [t for t in targets if t.process.address is None and not t.has_ended()]
            answers = Round(asked, began + self.timeout_s).run()
            return self.put_together(answers, len(without), began)

    def put_together(self, answers, without_socket, began):
        out = exposition.Exposition()
        up = []
        for target, families in answers:
            answered = not isinstance(families, Failure)
            if answered:
                out.add(families, target.labels())
            else:
                self.errors[families.reason] += 1
            up.append((target.labels(), int(answered)))
        self.scrapes += 1
        sentence = "1 when the process answered within the exporter's time; 0 when it did not."
        out.put("memlimit_up", "gauge", sentence, up)
        states = {"answered": sum(value for _, value in up), "without_socket": without_socket}
        states["failed"] = len(up) - states["answered"]
        sentence = "Processes under the library in this scrape; a small one has no socket."
        out.put("memlimit_exporter_processes", "gauge", sentence, [({"state": s}, n) for s, n in states.items()])
        sentence = "Times that a process did not answer in time, turned the exporter away, or did not answer in metrics."
        errors = [({"reason": reason}, self.errors[reason]) for reason in REASONS]
        out.put("memlimit_exporter_errors_total", "counter", sentence, errors)
        out.put("memlimit_exporter_scrapes_total", "counter", "Scrapes, this one included.", [({}, self.scrapes)])
        info = [({"version": self.version}, 1)]
        out.put("memlimit_exporter_build_info", "gauge", "Always 1; its label tells the exporter's version.", info)
        took = f"{time.monotonic() - began:.6f}"
        out.put("memlimit_exporter_scrape_seconds", "gauge", "Duration of this scrape.", [({}, took)])
        return out.text()


class Handler(http.server.BaseHTTPRequestHandler):
    server_version = "memlimit-exporter"
    sys_version = ""
    timeout = CLIENT_TIMEOUT_S
    protocol_version = "HTTP/1.0"  # a connection a scrape: none is kept that could be held

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self.reply(200, exposition.CONTENT_TYPE, self.server.exporter.scrape())
        elif path == "/":
            self.reply(200, "text/plain; charset=utf-8", "memlimit exporter: the metrics are at /metrics\n")
        elif path == "/-/healthy":
            self.reply(200, "text/plain; charset=utf-8", "ok\n")
        else:
            self.reply(404, "text/plain; charset=utf-8", "not found: the metrics are at /metrics\n")

    do_HEAD = do_GET

    def reply(self, status, content_type, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass  # a line a scrape tells nobody anything


def hang_up(request):
    """Its thread sees the end of the connection, and closes it."""
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, family, address, exporter):
        self.address_family = family
        self.exporter = exporter
        self.clients = {}  # socket: until when it is served
        super().__init__(address, Handler)

    def server_bind(self):
        # Without the base class's look-up of the host's name, which may wait for a name server.
        socket_server = super(http.server.HTTPServer, self)
        socket_server.server_bind()
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request, client_address):
        if len(self.clients) >= MAX_CLIENTS:
            # Whoever has been here for longest leaves: clients that say nothing keep nobody out.
            hang_up(next(iter(self.clients)))
        self.clients[request] = time.monotonic() + CLIENT_TIMEOUT_S + self.exporter.timeout_s
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.clients.pop(request, None)  # by its own thread: in one step, as all that touches the table
        super().shutdown_request(request)

    def service_actions(self):
        """At each turn of the loop: whoever sends or takes a byte now and then loses its place, too."""
        now = time.monotonic()
        for request, until in list(self.clients.items()):
            if now > until:
                hang_up(request)

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # a client that has gone is no error of ours
            print(f"memlimit: exporter: {type(error).__name__}: {error}", file=sys.stderr)


def listen(address, port, exporter):
    try:
        family, _, _, _, resolved = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return Server(family, resolved, exporter)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {address} port {port}: {getattr(error, 'strerror', None) or error}") from error


def raise_descriptor_limit():
    """A descriptor for each process that is asked, as many as may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft != resource.RLIM_INFINITY else soft, hard))


def port(text):
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return value


def seconds(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a time")
    return value


def add_options(command, version):
    """What the command takes, on its own parser."""
    command.add_argument("--address", default=DEFAULT_ADDRESS, help="where to listen (default: %(default)s)")
    command.add_argument("--port", type=port, default=DEFAULT_PORT, help="0: any that is free (default: %(default)s)")
    what = "also the sockets of this pattern, of processes that /proc does not show (more than once)"
    command.add_argument("--socket", action="append", default=[], metavar="PATTERN", help=what)
    what = "what a scrape may take (default: %(default)s)"
    command.add_argument("--timeout", type=seconds, default=DEFAULT_TIMEOUT_S, metavar="SECONDS", help=what)
    command.set_defaults(do=lambda given: run(given.address, given.port, given.timeout, given.socket, version))


def is_loopback(address):
    return address.startswith("127.") or address == "::1"


def run(address, port, timeout_s, patterns, version):
    """Serves until SIGINT or SIGTERM."""
    raise_descriptor_limit()
    exporter = Exporter(timeout_s, patterns, version)
    with listen(address, port, exporter) as server:
        host, bound = server.server_address[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"memlimit: exporter: serving http://{shown}:{bound}/metrics", file=sys.stderr, flush=True)
        if not is_loopback(host):
            print("memlimit: exporter: whoever can reach this address can read the figures", file=sys.stderr, flush=True)
        # A signal handler may not wait for the loop that it interrupts.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
        server.serve_forever(poll_interval=0.1)
    return 0
