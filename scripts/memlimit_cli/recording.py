"""The file of a recording: a process's figures over time, and what happened meanwhile.

It is tab-separated with one head line, so that anything can read it: `time` in seconds since the recording began,
`clock` in seconds since 1970, then every key of `stat` as the first answer had them. Lines that begin with # say whose
figures these are (`# pid 351`), and what happened between two samples (`#event TIME KIND WORDS`).
"""

import contextlib
import dataclasses
import datetime
import queue
import threading
import time

from . import asking, client, container, events, processes
from .text import UserError, printable

FIRST_LINE = "# memlimit recording 2"
# Of these there may be thousands a second; how many there were is among the figures.
UNRECORDED = {"round", "adapter_ran", events.STATE}
MOST_EVENTS = 10_000
EVENTS_LAG_S = 0.5


class Recording:
    """Lines of processes' figures in an open file; one process after the other."""

    def __init__(self, out, interval_s, command=()):
        self.out, self.interval_s, self.command = out, interval_s, command
        self.samples = 0
        self.began = None  # of the monotonic clock, at the first process
        self.keys = None
        self.process = None
        self.heard = None  # a Listener, of this process
        self.events = 0
        self.silent = False

    def begin(self, process):
        """What follows is of this process."""
        if self.began is None:
            self.began, self.started = time.monotonic(), time.time()
            self.write_head(process)
        else:
            self.put("#process", f"{self.now():.3f}", process.pid, printable(process.name))
        if self.heard is not None:
            self.heard.closed.set()
        self.process, self.heard, self.silent = process, Listener(process), False

    def write_head(self, process):
        started = datetime.datetime.fromtimestamp(self.started, datetime.timezone.utc).isoformat(timespec="milliseconds")
        print(FIRST_LINE, file=self.out)
        lines = [("pid", process.pid), ("name", process.name), ("started", started.replace("+00:00", "Z"))]
        with contextlib.suppress(OSError, AttributeError):
            lines.append(("user", asking.user_name(process.pid)))
        if (inside := container.of_process(process.pid)) != "-":
            lines.append(("container", inside))
        if self.command:
            lines.append(("command", " ".join(self.command)))
        for key, value in lines:
            print(f"# {key} {printable(str(value))}", file=self.out)

    def now(self):
        return time.monotonic() - self.began

    def put(self, *cells):
        print("\t".join(map(str, cells)), file=self.out, flush=True)

    def sample(self):
        """One line. False when the process has ended; a process that does not answer leaves a gap."""
        at = self.now()
        try:
            figures = self.process.stat()
        except client.NoAnswer as error:
            if not self.silent:
                self.put("#event", f"{at:.3f}", "no_answer", str(error))
            self.silent = True
            return processes.exists(self.process.pid)
        except UserError:
            if self.samples:
                return False
            raise
        if self.silent:
            self.put("#event", f"{self.now():.3f}", "answers_again")
            self.silent = False
            at = self.now()  # the figures are of now, however long they were waited for
        if self.keys is None:
            self.keys = list(figures)
            self.put("time", "clock", *self.keys)
        self.put(f"{at:.3f}", f"{self.started + at:.3f}", *(figures.get(key, "") for key in self.keys))
        self.samples += 1
        self.put_events()
        return True

    def put_events(self):
        for seconds, kind, words in self.heard.take():
            self.events += 1
            if self.events <= MOST_EVENTS:
                self.put("#event", f"{max(seconds - self.started, 0):.3f}", kind, *([words] if words else []))

    def pause(self):
        """To the next whole interval: a slow answer does not shift those after it."""
        time.sleep(self.interval_s - self.now() % self.interval_s)

    def follow(self, process, until):
        """Samples until the process ends or until() holds."""
        self.begin(process)
        while not until() and self.sample():
            self.pause()

    def end(self):
        """What had happened before the last sample may still be on its way."""
        if self.heard is not None:
            self.heard.closed.wait(EVENTS_LAG_S if not self.heard.ended.is_set() else 0)
            self.put_events()


class Listener:
    """Reads a process's events on a thread of its own."""

    def __init__(self, process):
        self.process = process
        self.lines = queue.SimpleQueue()
        self.closed = threading.Event()
        self.ended = threading.Event()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError, UserError):
            clock = events.Clock(self.process.pid)
            for line in self.process.events():
                if self.closed.is_set():
                    break
                kind, at_ns, figures = events.parse(line)
                if kind not in UNRECORDED and at_ns is not None:
                    words = " ".join(events.readable(*pair) for pair in figures.items())
                    self.lines.put((clock.seconds(at_ns), kind, words))
        self.ended.set()

    def take(self):
        taken = []
        with contextlib.suppress(queue.Empty):
            while True:
                taken.append(self.lines.get_nowait())
        return taken


@dataclasses.dataclass
class Recorded:
    """A recording as it is read back."""

    about: dict = dataclasses.field(default_factory=dict)
    columns: dict = dataclasses.field(default_factory=dict)  # {key: [numbers]}; a key that a sample lacked counts as 0
    events: list = dataclasses.field(default_factory=list)  # (time, kind, words)
    processes: list = dataclasses.field(default_factory=list)  # (time, pid, name) of those after the first

    @property
    def times(self):
        return self.columns["time"]


def note(recorded, line):
    """A line that begins with #; what is not understood is a comment."""
    cells = line.split("\t")
    with contextlib.suppress(ValueError, IndexError):
        if cells[0] == "#event":
            recorded.events.append((float(cells[1]), printable(cells[2]), printable(cells[3]) if len(cells) > 3 else ""))
        elif cells[0] == "#process":
            recorded.processes.append((float(cells[1]), int(cells[2]), printable(cells[3])))
        elif line.startswith("# ") and not recorded.columns:
            key, _, value = line[2:].partition(" ")
            recorded.about[key] = printable(value)


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            # What follows the last newline is a line that was never finished.
            lines = file.read().split("\n")[:-1]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    recorded, keys = Recorded(), None
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            note(recorded, line)
        elif keys is None:
            if not line.startswith("time\t"):
                break
            keys = line.split("\t")
            recorded.columns = {key: [] for key in keys}
        else:
            add_sample(recorded.columns, keys, line, f"{path}:{number}")
    if keys is None or len(recorded.times) < 2:
        raise UserError(f"{path}: not a recording of `memlimit record`, or an empty one")
    return recorded


def add_sample(columns, keys, line, where):
    cells = line.split("\t")
    if len(cells) != len(keys):
        raise UserError(f"{where}: {len(cells)} columns instead of {len(keys)}")
    for key, cell in zip(keys, cells):
        try:
            columns[key].append(float(cell or 0))
        except ValueError as error:
            raise UserError(f"{where}: {printable(cell)} is not a number") from error
