#!/usr/bin/env python3
"""A mixed service for an hour, treated badly, and what of it grows that should not.

    bench/soak.py                          60 minutes
    bench/soak.py --minutes 5 --png soak.png

redis-server, python3, node and a C++ cache with a hook run side by side under the library. Every second one of
them gets another limit through its socket, each is asked for statistics, some clients leave in the middle, and
now and then one is ended by SIGKILL and started again. Held against each process for as long as it lives:

    allocated less freed is what is on the heap, and totals never fall
    the statistics answer within 10 seconds: the watchdog for deadlocks
    descriptors and threads: no more at the end than early on
    resident memory is the heap's, idle pages' or the program's own mappings', but for what comes and goes
    the directory has one socket for each live process and none of the killed ones for long

Ends with status 1 when something does not hold, and says what.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import benchlib

MIB = 1 << 20
ANSWER_S = 10
SETTLED_S = 20  # a process has its descriptors and threads by then
# Resident, and neither a live block nor mapped by the program, for a minute on end: idle pages after a fall of the
# limit go sooner, and whatever the library keeps for itself is far less.
UNEXPLAINED_BYTES = 48 * MIB
UNEXPLAINED_LOOKS = 60
LIMITS_MIB = (24, 48, 64, 96, 128)

PYTHON = """
import random
class Node: pass
held = {}
while True:
    a, b = Node(), Node()
    a.other, b.other, a.bytes = b, a, bytearray(random.randrange(100_000))
    held[random.randrange(300)] = bytes(random.randrange(200_000))
"""
NODE = """
let held = new Map();
function turn() {
  for (let i = 0; i < 2000; i++) held.set(Math.floor(Math.random() * 20000), 'x'.repeat(Math.random() * 2000) + i);
  setTimeout(turn, 2);
}
turn();
"""
REDIS_LOAD = """
for i = 1, 3000 do
  redis.call('set', math.random(40000), string.rep('x', math.random(2000)))
  redis.call('del', math.random(40000))
end
"""


class Service:
    """One program under the library, started again when it was killed."""

    def __init__(self, name, argv, directory, library):
        self.name, self.argv, self.directory, self.library = name, argv, directory, library
        self.started = self.process = self.early = None
        self.starts = 0
        self.totals = (0, 0)
        self.series = {"t": [], "heap": [], "rss": [], "limit": [], "fds": [], "threads": []}
        self.start()

    @property
    def socket(self):
        return self.directory / "sockets" / f"{self.process.pid}.sock"

    def start(self):
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=self.directory, env={**benchlib.clean_environment(), "LD_PRELOAD": str(self.library),
                                     "MEMLIMIT": "64MiB", "MEMLIMIT_SOCKET": f"{self.directory}/sockets/",
                                     "MEMLIMIT_LOG": f"warn:{self.directory}/{self.name}.log"})
        self.started, self.early, self.totals = time.monotonic(), None, (0, 0)
        self.unexplained = collections.deque(maxlen=UNEXPLAINED_LOOKS)
        self.starts += 1

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_S)
            client.connect(str(self.socket))
            client.sendall(request.encode() + b"\n")
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        return answer.decode()

    def leave_early(self, request):
        """A client that asks and does not wait."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_S)
            client.connect(str(self.socket))
            client.sendall(request.encode())

    def own(self):
        """Descriptors and threads of the process that are the library's."""
        process = pathlib.Path("/proc") / str(self.process.pid)
        inode = str(os.stat(self.socket).st_ino)
        kinds, threads = [], []
        # The program opens and closes, starts and ends of its own meanwhile.
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                kinds.append(os.readlink(fd))
        for task in (process / "task").iterdir():
            with contextlib.suppress(OSError):
                threads.append((task / "comm").read_text())
        mine = [kind for kind in kinds if kind.endswith("/statm") or inode in kind]
        return len(mine), len(kinds), threads.count("memlimit\n"), len(threads)


def figures_of(text):
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())
            if value.lstrip("-").isdigit()}


class Soak:
    """The services, and what was found against them."""

    def __init__(self, options, directory):
        self.directory, self.found, self.random = directory, [], random.Random(options.seed)
        self.counts = {"answers": 0, "limits": 0, "kills": 0, "left early": 0}
        (directory / "sockets").mkdir(mode=0o700)
        library = options.build.absolute() / "preload" / "libmemlimit.so"
        cache = options.build.absolute() / "bench" / "bench_near_limit"
        programs = {
            "cache": [cache, "--threads", "2", "--seconds", "1000000"],
            "python3": ["/usr/bin/python3", "-I", "-c", PYTHON],
            "node": [shutil.which("node"), "-e", NODE],
            "redis": ["redis-server", "--port", "0", "--unixsocket", directory / "redis", "--save", "",
                      "--logfile", "/dev/null", "--dir", directory],
        }
        self.services = [Service(name, argv, directory, library) for name, argv in programs.items()
                         if shutil.which(argv[0] or "-")]
        self.began = time.monotonic()

    def complain(self, service, what):
        self.found.append(f"{service.name}, {time.monotonic() - self.began:.0f} s: {what}")
        benchlib.warn(self.found[-1])

    def look(self, service):
        age = time.monotonic() - service.started
        if service.process.poll() is not None:
            self.complain(service, f"ended with status {service.process.returncode}")
            service.start()
            return
        try:
            before = figures_of(service.ask("stat"))
            fds, all_fds, our_threads, threads = service.own()
        except FileNotFoundError:
            if age > SETTLED_S:
                self.complain(service, "no socket")
            return
        except (OSError, ValueError) as error:
            if service.process.poll() is None and age > SETTLED_S:
                self.complain(service, f"no answer: {error}")
            return
        self.counts["answers"] += 1
        self.check(service, before, (fds, our_threads), age)
        for key, value in (("t", time.monotonic() - self.began), ("heap", before["heap_alloc"]),
                           ("rss", before["rss_anon"]), ("limit", before["limit"]), ("fds", all_fds),
                           ("threads", threads)):
            service.series[key].append(value)

    def check(self, service, now, own, age):
        if now["total_alloc"] - now["total_freed"] != now["heap_alloc"]:
            self.complain(service, f"heap {now['heap_alloc']} is not {now['total_alloc']} - {now['total_freed']}")
        if (now["total_alloc"], now["rounds"]) < service.totals:
            self.complain(service, f"totals fell from {service.totals}")
        service.totals = (now["total_alloc"], now["rounds"])
        unexplained = service.unexplained
        unexplained.append(now["rss_anon"] - now["heap_alloc"] - now["mapped"])
        if len(unexplained) == UNEXPLAINED_LOOKS and min(unexplained) > UNEXPLAINED_BYTES:
            self.complain(service, f"at least {min(unexplained) // MIB} MiB are nobody's")
            unexplained.clear()
        if age > SETTLED_S and service.early is None:
            service.early = own
        elif service.early is not None and own > service.early:
            self.complain(service, f"descriptors and threads of ours: {service.early} became {own}")
            service.early = own

    def disturb(self, turn):
        service = self.random.choice(self.services)
        with contextlib.suppress(OSError, ValueError):
            kind = self.random.randrange(10)
            if kind < 5:
                limit = self.random.choice(LIMITS_MIB)
                if service.ask(f"limit={limit}MiB").strip() != str(limit * MIB):
                    self.complain(service, f"the limit did not become {limit} MiB")
                self.counts["limits"] += 1
            elif kind < 7:
                for _ in range(20):
                    service.leave_early(self.random.choice(("stat\n", "met", "metrics\n", "GET / HTTP/1.1\r\n", "events\n")))
                self.counts["left early"] += 20
            elif kind < 8 and turn % 3 == 0:
                service.kill()
                service.start()
                self.counts["kills"] += 1
        with contextlib.suppress(OSError):
            subprocess.run(["redis-cli", "-s", self.directory / "redis", "eval", REDIS_LOAD, "0"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)

    def check_sockets(self):
        live = {f"{s.process.pid}.sock" for s in self.services}
        stale = {path.name for path in (self.directory / "sockets").iterdir()} - live
        # Swept by whoever opens its own socket there next.
        if len(stale) > 1:
            self.found.append(f"sockets of dead processes: {sorted(stale)}")

    def run(self, seconds):
        turn = 0
        while (left := seconds - (time.monotonic() - self.began)) > 0:
            turn += 1
            self.disturb(turn)
            for service in self.services:
                self.look(service)
            if turn % 60 == 0:
                benchlib.warn(f"{left / 60:.0f} minutes left, {len(self.found)} complaints")
            time.sleep(1)
        self.check_sockets()

    def end(self):
        for service in self.services:
            service.kill()

    def panels(self):
        return [{"title": s.name, "x": "minutes", "y": "MiB", "ymin": 0, "lines": [
            {"x": [t / 60 for t in s.series["t"]], "y": [v / MIB for v in s.series[key]], "label": key, "width": 0.8}
            for key in ("limit", "heap", "rss")]} for s in self.services] + [
            {"title": f"{s.name}: descriptors and threads", "x": "minutes", "y": "", "ymin": 0, "lines": [
                {"x": [t / 60 for t in s.series["t"]], "y": s.series[key], "label": key}
                for key in ("fds", "threads")]} for s in self.services]

    def report(self):
        rows = [[s.name, s.starts, len(s.series["t"]), f"{max(s.series['rss'], default=0) / MIB:.0f}",
                 f"{max(s.series['fds'], default=0)}", f"{max(s.series['threads'], default=0)}"]
                for s in self.services]
        told = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        verdict = "\n".join(f"- {line}" for line in self.found) or "Nothing found."
        return "\n\n".join([
            f"## soak\n\n{benchlib.host()}\n\n{(time.monotonic() - self.began) / 60:.0f} minutes: {told}",
            benchlib.markdown(["program", "starts", "answers", "RSS at most, MiB", "descriptors", "threads"], rows),
            verdict])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    benchlib.add_arguments(parser, runs=1)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        options.allocators = "memlimit"
        benchlib.prepare(options)
        with tempfile.TemporaryDirectory(prefix="memlimit-soak-") as name:
            soak = Soak(options, pathlib.Path(name))
            try:
                soak.run((0.5 if options.quick else options.minutes) * 60)
            finally:
                soak.end()
            results = {s.name: {"memlimit": []} for s in soak.services}
            benchlib.finish(options, soak.report(), results, {"kind": "series", "columns": 2, "panels": soak.panels()})
    except (benchlib.BenchError, OSError) as error:
        sys.exit(f"soak.py: {error}")
    sys.exit(1 if soak.found else 0)


if __name__ == "__main__":
    main()
