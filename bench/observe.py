#!/usr/bin/env python3
"""What it costs a program to be looked at, and to be beleaguered.

    bench/observe.py              both parts (about two minutes)
    bench/observe.py --quick      does it run, not how much

reading    CPU time of the whole program while a client asks for a file so many times a second, against the
           same program that nobody asks. Beside it a server that does no more than wait, accept, read, write
           and close: what the machine takes for that.
crowd      a thousand clients of every bad kind, all the time: memory of the program, latency of its malloc,
           and how long an honest client waits. Paired: the crowd besieges another process of the same kind
           just as long, so that what it takes of the machine itself is in both.

With --bars it ends with status 1 when a bar is missed.
"""

import argparse
import contextlib
import os
import pathlib
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import benchlib

MIB = 1 << 20
LIMIT = "256MiB"
CLIENTS = 1000
READS_PER_S = 100
READING_BAR_PERCENT = 0.5
# Slots of the server, a page of request and one of bookkeeping each, and the texts it renders into.
MEMORY_BAR_KIB = 1024
PAIR_BAR = 1.03
# 1000 clients in the 32 slots that are not for events, 50 ms each.
ANSWER_BAR_S = 2.0


class Watched:
    """bench_watched under the library, with its socket."""

    def __init__(self, options, directory, name, bare=False):
        self.path = str(directory / name)
        program = str(options.build / "bench" / "bench_watched")
        run = str(options.build / "scripts" / "memlimit-run")
        self.process = subprocess.Popen(
            [program, "bare", self.path] if bare else [run, "-l", LIMIT, "--socket", self.path, program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=benchlib.clean_environment())
        if self.process.stdout.readline() != "ready\n":
            raise benchlib.BenchError("bench_watched does not come up")
        while not os.path.exists(self.path):
            time.sleep(0.01)
        self.ask("metrics")  # what the first answer maps is there from now on

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(self.path)
            client.sendall(request.encode() + b"\n")
            answer = b""
            while part := client.recv(65536):
                answer += part
        if not answer:
            raise benchlib.BenchError("an empty answer")
        return answer.decode()

    def allocate(self, milliseconds):
        """What bench_watched says of so long a time at work."""
        print(milliseconds, file=self.process.stdin, flush=True)
        words = dict(word.split("=") for word in self.process.stdout.readline().split())
        figures = {key: float(value) for key, value in words.items()}
        figures["pair_cpu"] = figures["cpu_ns"] / figures["calls"]
        return figures

    def cpu_ns(self):
        """Of all its threads."""
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            total += int(pathlib.Path(f"/proc/{self.process.pid}/task/{task}/schedstat").read_text().split()[0])
        return total

    def service_cpu_ns(self):
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            folder = pathlib.Path(f"/proc/{self.process.pid}/task/{task}")
            if (folder / "comm").read_text() == "memlimit\n":
                return int((folder / "schedstat").read_text().split()[0])
        raise benchlib.BenchError("no service thread")

    def anonymous_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
        raise benchlib.BenchError("no RssAnon")

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def spend(watched, file, per_s, seconds):
    """CPU nanoseconds that the program spends in so many seconds; asked for nothing when per_s is 0."""
    before, began = watched.cpu_ns(), time.monotonic()
    for turn in range(int((per_s or 1) * seconds)):
        if per_s:
            watched.ask(file)
        time.sleep(max(began + (turn + 1) / (per_s or 1) - time.monotonic(), 0))
    return watched.cpu_ns() - before


def reading(options, watched, bare, missed):
    seconds = 1 if options.quick else 3
    rows = []
    for file in ("stat", "status", "metrics", "(a bare server)"):
        shares, each = [], []
        asked_one = watched if file.isalpha() else bare
        for _ in range(1 if options.quick else 4):
            idle = spend(asked_one, file, 0, seconds)
            asked = spend(asked_one, file, READS_PER_S, seconds)
            shares.append((asked - idle) / seconds / 1e7)
            each.append((asked - idle) / (READS_PER_S * seconds) / 1e3)
        share = statistics.median(shares)
        rows.append((file, f"{share:.2f} %", f"{max(shares):.2f} %", f"{statistics.median(each):.1f}"))
        if file == "stat" and share >= READING_BAR_PERCENT:
            missed.append(f"{READS_PER_S} readings of stat a second cost {share:.2f} % of a core")
    return benchlib.markdown(
        [f"{READS_PER_S} readings a second of", "of one core", "worst run", "us each"], rows)


class BadClient:
    """One client of a kind that no server likes; `step` goes on being it."""

    KINDS = ("silent", "half a word", "never reads", "a MiB", "half-closed", "events", "slow HTTP", "a byte a turn")

    def __init__(self, path, number):
        self.path = path
        self.kind = self.KINDS[number % len(self.KINDS)]
        self.sock = None

    def begin(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setblocking(False)
        self.sock.connect(self.path)
        if self.kind == "half a word":
            self.sock.send(b"met")
        elif self.kind == "never reads":
            self.sock.send(b"metrics\n")
        elif self.kind == "a MiB":
            self.sock.send(b"x" * MIB)
        elif self.kind == "half-closed":
            self.sock.send(b"GET /metrics HTTP/1.1\r\nA:")
            self.sock.shutdown(socket.SHUT_WR)
        elif self.kind == "events":
            self.sock.send(b"events\n")
        elif self.kind == "slow HTTP":
            self.sock.send(b"GET /metrics HTTP/1.1\r\n")

    def step(self):
        try:
            if self.sock is None:
                self.begin()
            elif self.kind == "a byte a turn":
                self.sock.send(b"m")
            elif self.kind == "slow HTTP":
                self.sock.send(b"A: b\r\n")
            elif self.kind == "a MiB":
                self.sock.send(b"x" * 4096)
            elif not self.sock.recv(1, socket.MSG_PEEK) or self.kind == "never reads":
                raise ConnectionResetError  # hung up on, or answered: once more
        except BlockingIOError:
            pass
        except OSError:
            self.sock.close()
            self.sock = None


def besiege(path):
    """The crowd, until it is killed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    crowd = [BadClient(path, number) for number in range(CLIENTS)]
    began = False
    while True:
        for client in crowd:
            client.step()
        if not began:
            print("all there", flush=True)
            began = True


@contextlib.contextmanager
def crowd_at(watched):
    with subprocess.Popen([sys.executable, __file__, "--besiege", watched.path],
                          stdout=subprocess.PIPE, text=True) as crowd:
        try:
            crowd.stdout.readline()
            yield
        finally:
            crowd.kill()


class Honest:
    """Asks for a small file, a little later for it again, in a process of its own."""

    def __init__(self, path):
        self.process = subprocess.Popen([sys.executable, __file__, "--honest", path],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self.process.stdout.readline()

    def waits_s(self):
        with self.process:
            self.process.stdin.close()
            return [float(line) for line in [self.first, *self.process.stdout]]


def ask_honestly(path):
    """Until its standard input ends."""
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        began = time.monotonic()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(path)
            client.sendall(b"limit\n")
            if not client.recv(100).strip().isdigit():
                raise benchlib.BenchError("a wrong answer")
        print(time.monotonic() - began, flush=True)
    return 0


def crowd(options, watched, decoy, missed):
    milliseconds = 300 if options.quick else 700
    there, elsewhere, waits, growth, busy = [], [], [], [], []
    for repetition in range(2 if options.quick else 40):
        # In an order that changes, so that what drifts does not favour one.
        for target in ((watched, decoy) if repetition % 2 else (decoy, watched)):
            before_kib = watched.anonymous_kib()
            with crowd_at(target):
                honest = Honest(watched.path) if target is watched else None
                cpu_ns = watched.service_cpu_ns()
                figures = watched.allocate(milliseconds)
                if target is watched:
                    busy.append((watched.service_cpu_ns() - cpu_ns) / milliseconds / 1e4)
                    growth.append(watched.anonymous_kib() - before_kib)
                    waits += honest.waits_s()
            (there if target is watched else elsewhere).append(figures)
    rows = []
    for key, name in (("pair_cpu", "CPU time of a pair, ns"), ("p50", "median"), ("p99", "99 %"), ("p999", "99.9 %")):
        ratios = [a[key] / b[key] for a, b in zip(there, elsewhere)]
        ratio = statistics.median(ratios)
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        rows.append((name, f"{statistics.median(f[key] for f in elsewhere):.1f}",
                     f"{statistics.median(f[key] for f in there):.1f}", f"{ratio:.3f} ({low:.2f}-{high:.2f})"))
        if key == "pair_cpu" and ratio > PAIR_BAR:
            missed.append(f"under a crowd a pair costs {ratio:.3f} times as much")
    table = benchlib.markdown(["malloc and free", "crowd elsewhere", "crowd at the program", "ratio (quartiles)"], rows)
    if max(growth) > MEMORY_BAR_KIB:
        missed.append(f"the crowd made the program {max(growth)} KiB larger")
    if max(waits) > ANSWER_BAR_S:
        missed.append(f"an honest client waited {max(waits):.2f} s")
    return f"""{table}

{CLIENTS} clients at once. Memory of the program grew by at most {max(growth)} KiB. {len(waits)} honest clients among them were
all answered: median {statistics.median(waits) * 1000:.1f} ms, longest {max(waits) * 1000:.0f} ms. The service thread took \
{statistics.median(busy):.0f} % of a core meanwhile."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", type=pathlib.Path, default=benchlib.REPOSITORY / "build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("reading", "crowd"))
    parser.add_argument("--bars", action="store_true")
    parser.add_argument("--besiege", help=argparse.SUPPRESS)
    parser.add_argument("--honest", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.besiege:
        besiege(options.besiege)
    if options.honest:
        return ask_honestly(options.honest)
    options.build = options.build.resolve()
    subprocess.run(["ninja", "-C", str(options.build), "bench/bench_watched", "runtime"], check=True,
                   stdout=subprocess.DEVNULL)
    missed = []
    with tempfile.TemporaryDirectory(prefix="memlimit-observe-") as name:
        directory = pathlib.Path(name)
        watched, decoy, bare = (Watched(options, directory, name, name == "bare") for name in ("a", "b", "bare"))
        try:
            if options.only != "crowd":
                print(reading(options, watched, bare, missed), end="\n\n")
            if options.only != "reading":
                print(crowd(options, watched, decoy, missed), end="\n\n")
        finally:
            watched.end()
            decoy.end()
            bare.end()
    print(benchlib.host())
    for sentence in missed:
        print(f"missed: {sentence}", file=sys.stderr)
    return 1 if missed and options.bars else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except benchlib.BenchError as error:
        sys.exit(f"observe: {error}")
