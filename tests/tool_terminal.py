"""A terminal for tests: a command on a pseudo terminal of its own, and what would be seen on its screen."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from tool_support import PATIENCE_S

SEQUENCE = re.compile(r"\x1b\[([?>]?)([\d;]*)([A-Za-z@])|\x1b[()][AB0]|\x1b[=>78M]|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]")


class Screen:
    """What a VT100 shows: only what ncurses sends to one."""

    def __init__(self, columns, lines):
        self.resize(columns, lines)

    def resize(self, columns, lines):
        self.columns, self.lines = columns, lines
        self.cells = [[" "] * columns for _ in range(lines)]
        self.x = self.y = 0
        self.top, self.bottom = 0, lines - 1  # of what scrolls

    def scroll(self, begin, end):
        """The line `begin` goes, an empty one comes in at `end`."""
        del self.cells[begin]
        self.cells.insert(end, [" "] * self.columns)

    def feed(self, text):
        for found in SEQUENCE.finditer(text):
            if found[3]:
                if not found[1]:
                    self.control(found[3], [int(word or 0) for word in found[2].split(";")])
            elif len(found[0]) == 1:
                self.put(found[0])
            elif found[0] == "\x1bM" and self.y == self.top:
                self.scroll(self.bottom, self.top)
            elif found[0] == "\x1bM":
                self.y = max(self.y - 1, 0)

    def put(self, c):
        if c == "\r":
            self.x = 0
        elif c == "\n" and self.y == self.bottom:
            self.scroll(self.top, self.bottom)
        elif c == "\n":
            self.y = min(self.y + 1, self.lines - 1)
        elif c == "\b":
            self.x = max(self.x - 1, 0)
        elif c >= " ":
            if self.x >= self.columns:
                self.x, self.y = 0, min(self.y + 1, self.lines - 1)
            self.cells[self.y][self.x] = c
            self.x += 1

    def control(self, kind, numbers):
        first = numbers[0]
        if kind == "H":
            self.y = min(max(first, 1), self.lines) - 1
            self.x = min(max(numbers[1] if len(numbers) > 1 else 1, 1), self.columns) - 1
        elif kind == "r":
            self.top = max(first, 1) - 1
            self.bottom = min((numbers[1] if len(numbers) > 1 else 0) or self.lines, self.lines) - 1
            self.x = self.y = 0
        elif kind in "ABCD":
            step = max(first, 1)
            self.y = min(max(self.y + {"A": -step, "B": step}.get(kind, 0), 0), self.lines - 1)
            self.x = min(max(self.x + {"D": -step, "C": step}.get(kind, 0), 0), self.columns - 1)
        elif kind == "K":
            begin, end = {0: (self.x, self.columns), 1: (0, self.x + 1), 2: (0, self.columns)}[first]
            self.cells[self.y][begin:end] = [" "] * (end - begin)
        elif kind == "J":
            begin = self.y * self.columns + self.x if first == 0 else 0
            for at in range(begin, self.lines * self.columns):
                self.cells[at // self.columns][at % self.columns] = " "

    def text(self):
        return "\n".join("".join(line).rstrip() for line in self.cells)


class Session:
    """A command that has the terminal as its own; with `with`, it is killed if it is still there."""

    def __init__(self, command, columns=80, lines=24, kind="vt100", **settings):
        self.leader, self.follower = pty.openpty()
        self.screen = Screen(columns, lines)
        self.output = ""
        self.set_size(columns, lines)
        self.before = termios.tcgetattr(self.follower)
        environment = {"PATH": os.environ["PATH"], "TERM": kind, "LANG": "C.UTF-8", "HOME": "/", **settings}
        # Python's own words as they are: from 3.13 on an error has colours on a terminal.
        environment.setdefault("PYTHON_COLORS", "0")
        self.process = subprocess.Popen(
            command, stdin=self.follower, stdout=self.follower, stderr=self.follower, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for end in (self.leader, self.follower):
            if end >= 0:
                os.close(end)

    def set_size(self, columns, lines):
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def resize(self, columns, lines):
        self.screen.resize(columns, lines)
        self.set_size(columns, lines)

    def type(self, keys):
        os.write(self.leader, keys.encode())

    def read(self, seconds):
        """Takes what comes within so long; False when nothing does."""
        if not select.select([self.leader], [], [], seconds)[0]:
            return False
        part = os.read(self.leader, 65536).decode(errors="replace")
        self.output += part
        self.screen.feed(part)
        return True

    def until(self, holds, what=""):
        """Reads until holds(the screen's text); AssertionError with the screen when it never does."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(self.screen.text()):
            if time.monotonic() > deadline or (self.process.poll() is not None and not self.read(0.2)):
                raise AssertionError(f"{what or 'what was waited for'} never came:\n{self.screen.text()}\n{self.output[-400:]!r}")
            self.read(0.2)
        return self.screen.text()

    def shows(self, *words):
        return self.until(lambda text: all(word in text for word in words), " ".join(words))

    def end(self):
        """Its status, once it has ended; and everything it wrote is in `output`."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end:\n{self.screen.text()}")
            self.read(0.1)
        while self.read(0.1):
            pass
        return self.process.returncode

    def attributes(self):
        return termios.tcgetattr(self.follower)

    def signal(self, number):
        self.process.send_signal(number)

    def hang_up(self):
        """The terminal goes, without a signal to whoever ignores it."""
        os.close(self.follower)
        os.close(self.leader)
        self.leader = self.follower = -1
