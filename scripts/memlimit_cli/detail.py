"""The page of one process in `memlimit top`: its figures, hooks, heap, events, and what the doctor says of it.

A thread asks the process for as long as the page is open, another reads its events.
"""

import collections
import contextlib
import threading

from . import events, findings, snapshot
from .text import UserError, cut, format_size, table, wrap

TABS = ("figures", "hooks", "heap", "events", "doctor")
LAST_EVENTS = 500
MICROSECONDS = 1000


def wrapped(text, width):
    return list(wrap(text, max(width, 10)))


class Page:
    def __init__(self, process, wake, interval_s, start=True):
        self.process, self.wake, self.interval_s = process, wake, interval_s
        self.tab, self.top = 0, 0
        self.taken = None  # a snapshot.Snapshot
        self.gone = None  # why there is none any more
        self.heard = collections.deque(maxlen=LAST_EVENTS)  # of events, as lines
        self.closed = threading.Event()
        if start:
            threading.Thread(target=self.sample, daemon=True).start()
            threading.Thread(target=self.listen, daemon=True).start()

    def close(self):
        self.closed.set()

    def sample(self):
        while not self.closed.is_set():
            try:
                self.taken, self.gone = snapshot.take(self.process.pid), None
            except (OSError, UserError) as error:
                self.gone = str(error)
            self.wake()
            self.closed.wait(max(self.interval_s, 0.5))

    def listen(self):
        with contextlib.suppress(OSError, UserError):
            clock = events.Clock(self.process.pid)
            for line in self.process.events():
                if self.closed.is_set():
                    return
                self.heard.append(events.shown(line, clock))
                self.wake()

    def key(self, key, height):
        if key in ("\t", "RIGHT", "BTAB"):
            self.tab, self.top = (self.tab + (-1 if key == "BTAB" else 1)) % len(TABS), 0
        elif len(key) == 1 and key in "12345":
            self.tab, self.top = int(key) - 1, 0
        else:
            page = max(height - 6, 1)
            steps = {"UP": -1, "k": -1, "DOWN": 1, "j": 1, "PPAGE": -page, "NPAGE": page, "HOME": -(10**6), "END": 10**6}
            self.top = max(self.top + steps.get(key, 0), 0)

    def picture(self, width, height):
        tabs = []
        for number, name in enumerate(TABS):
            tabs += [(f"{number + 1} {name}", "selected" if number == self.tab else "dim"), ("  ", "")]
        ended = f"  ({self.gone}; these are its last figures)" if self.gone and self.taken else ""
        lines = [[(cut(f"{self.process.pid} {self.process.name}{ended}", width), "bold")], tabs, []]
        body = BODIES[TABS[self.tab]](self, width)
        room = max(height - len(lines), 1)
        self.top = min(self.top, max(len(body) - room, 0))
        return lines + [clip(line, width) for line in body[self.top : self.top + room]]

    def missing(self, width):
        if self.taken is None:
            return [[(line, "dim")] for line in wrapped(self.gone or "asking ...", width)]
        if self.taken.problem:
            return [[(line, "critical")] for line in wrapped(self.taken.problem, width)]
        return None

    def figures(self, width):
        if (missing := self.missing(width)) is not None:
            return missing
        pairs = [(key, amount(value) if key not in NUMBERS else str(value)) for key, value in self.taken.status.items()]
        pairs += [("Container", self.taken.container), ("Runs as", self.taken.user)]
        if room := self.taken.room:
            pairs.append(("Room", f"{format_size(room.limit - room.used)} of {format_size(room.limit)} in its cgroup"))
        most = max(len(key) for key, _ in pairs)
        if width < 76:
            return [[(f"{key:<{most}}  ", "dim"), (value, "")] for key, value in pairs]
        half = (len(pairs) + 1) // 2
        lines = []
        for i in range(half):
            left = pairs[i]
            line = [(f"{left[0]:<{most}}  ", "dim"), (f"{left[1]:<{width // 2 - most - 4}}", "")]
            if i + half < len(pairs):
                right = pairs[i + half]
                line += [("  ", ""), (f"{right[0]:<{most}}  ", "dim"), (right[1], "")]
            lines.append(line)
        return lines

    def hooks(self, width):
        if (missing := self.missing(width)) is not None:
            return missing
        if not self.taken.hooks:
            return [[("no hook: a round can give back free pages, and nothing else", "dim")]]
        head = ["HOOK", "WHERE", "CALLS", "FREED", "LAST", "TIME", "SKIPS", "BACKOFF", "OVERRUNS", "RUNS FOR"]
        rows = [head]
        for hook in self.taken.hooks:
            runs = hook.get("running_us")
            rows.append([
                hook["name"], str(hook.get("context")), str(hook.get("calls")), amount(hook.get("freed")),
                amount(hook.get("last")), duration(hook.get("us")), str(hook.get("skips")), str(hook.get("backoff")),
                str(hook.get("overruns")), duration(runs) if runs else "-",
            ])
        return heading(table(rows, right=range(2, len(head))))

    def heap(self, width):
        if (missing := self.missing(width)) is not None:
            return missing
        classes, threads = self.taken.largest_classes(), self.taken.largest_threads()
        rows = [["CLASS", "LIVE", "BLOCKS", "CACHED", "FREE"]]
        for row in classes:
            block = row.get("block") or 0
            rows.append([
                row["class"], amount(row.get("live_bytes")), str(row.get("live")),
                amount((row.get("cached") or 0) * block) if block else "-", amount((row.get("free") or 0) * block) if block else "-",
            ])
        lines = heading(table(rows, right=range(1, 5))) + [[]]
        rows = [["THREAD", "LIVE", "CACHED", "NAME"]]
        for row in threads:
            rows.append([row["thread"], amount(row.get("live_bytes")), amount(row.get("cached_bytes")), row.get("name", "-")])
        return lines + heading(table(rows, right=(1, 2)))

    def event_lines(self, width):
        if not self.heard:
            return [[("none yet: the newest will stand on top", "dim")]]
        return [[(cut(line, width), "")] for line in reversed(self.heard)]

    def doctor(self, width):
        if self.taken is None:
            return self.missing(width)
        lines = []
        for finding in findings.examine(self.taken):
            style = {"critical": "over", "warning": "moderate"}.get(finding.severity, "dim")
            for text in wrapped(f"{finding.severity.upper()}: {finding.text}", width):
                lines.append([(text, style)])
            for label, text in (("cause", finding.cause), ("remedy", finding.remedy)):
                lines += [[("  " + part, "")] for part in wrapped(f"{label}: {text}", width - 2)] if text else []
        return lines


BODIES = {
    "figures": Page.figures, "hooks": Page.hooks, "heap": Page.heap, "events": Page.event_lines, "doctor": Page.doctor,
}
NUMBERS = {"Name", "Pid", "Rounds", "Hooks", "HookCalls", "HookOverruns", "Oversized", "Assists", "Threads", "LimitFrom"}


def heading(lines):
    return [[(line, "dim" if number == 0 else "")] for number, line in enumerate(lines)]


def clip(line, width):
    clipped, taken = [], 0
    for text, style in line:
        text = cut(text, max(width - taken, 0))
        clipped.append((text, style))
        taken += len(text)
    return clipped


def amount(value):
    return format_size(value) if isinstance(value, int) else "-" if value is None else str(value)


def duration(us):
    if not isinstance(us, int):
        return "-"
    return f"{us / 1e6:.1f} s" if us >= 10**6 else f"{us / 1000:.1f} ms" if us >= MICROSECONDS else f"{us} us"
