"""Looks at the processes again and again on a thread of its own, so that keys are answered whatever they do."""

import threading
import time

from . import asking, rows


class Rates:
    """Rounds a second of each process since the last picture."""

    def __init__(self):
        self.before = {}  # pid: (time, rounds)

    def put_into(self, found, now):
        seen = {}
        for row in found:
            pid, rounds = row.process.pid, row.figures.get("rounds", 0)
            seen[pid] = (now, rounds)
            then, rounds_then = self.before.get(pid, (now, rounds))
            # A process that took over the pid has fewer.
            row.rate = max(rounds - rounds_then, 0) / (now - then) if now > then else 0.0
        self.before = seen


class Sampler:
    """`rows` are those of the last look; `wake` is called after each."""

    def __init__(self, interval_s, which, wake=lambda: None):
        self.interval_s, self.which, self.wake = interval_s, which, wake
        self.asker, self.rates = asking.Asker(), Rates()
        self.rows = []
        self.looks = 0
        self.error = None
        self.paused = False
        self.at_once = threading.Event()

    def look(self):
        found = rows.make(asking.everybody(self.which, self.asker))
        self.rates.put_into(found, time.monotonic())
        self.rows = found
        self.looks += 1

    def start(self):
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                if not self.paused:
                    self.look()
                    self.wake()
                self.at_once.wait(self.interval_s)
                self.at_once.clear()
        except BaseException as error:  # the screen's thread says it, once the terminal is as it was
            self.error = error
            self.wake()
