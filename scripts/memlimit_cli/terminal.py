"""The terminal while `memlimit top` draws on it, and as it was whatever ends that.

Signals only note what is to be done and wake wait(): the thread that draws does it. A terminal that is gone, SIGTERM,
SIGHUP and SIGQUIT end the session; SIGTSTP (ctrl-Z) gives the terminal back and takes it again; SIGWINCH draws anew.
"""

import contextlib
import curses
import os
import select
import signal
import sys

FATAL = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
NOTED = (*FATAL, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
ESCAPE_MS = 25  # how long what follows an escape may take, to be one key with it
MOST_EMPTY = 100  # of a character that is not whole yet; after so many it is the end of the input
COLOURS = {"low": curses.COLOR_GREEN, "moderate": curses.COLOR_YELLOW, "critical": curses.COLOR_RED, "over": curses.COLOR_RED}


class Ended(BaseException):
    """A signal ends the session, or the terminal is gone (None)."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


class Terminal:
    def __init__(self):
        self.noted = set()
        self.reader, self.writer = os.pipe()
        self.styles = {}
        self.window = None
        self.empty = 0  # reads in a row that found nothing where something was announced

    def __enter__(self):
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        self.handlers = {number: signal.signal(number, self.note) for number in NOTED}
        self.wakeup = signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        try:
            self.window = curses.initscr()
            self.set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def set_up(self):
        curses.noecho()
        curses.cbreak()
        curses.set_escdelay(ESCAPE_MS)
        self.window.keypad(True)
        self.window.nodelay(True)
        with contextlib.suppress(curses.error):  # a terminal that cannot hide its cursor
            curses.curs_set(0)
        bold, dim, reverse = curses.A_BOLD, curses.A_DIM, curses.A_REVERSE
        self.styles = {"bold": bold, "dim": dim, "head": dim, "sorted": bold | curses.A_UNDERLINE, "selected": reverse}
        self.styles |= {"critical": bold, "over": bold, "key": bold}
        with contextlib.suppress(curses.error):
            curses.start_color()
            if curses.has_colors() and "NO_COLOR" not in os.environ:
                curses.use_default_colors()
                for number, (level, colour) in enumerate(COLOURS.items(), 1):
                    curses.init_pair(number, colour, -1)
                    self.styles[level] = curses.color_pair(number) | (bold if level == "over" else 0)

    def __exit__(self, *_):
        if self.window is not None and not curses.isendwin():
            with contextlib.suppress(curses.error):
                self.window.keypad(False)
                curses.nocbreak()
                curses.echo()
                curses.endwin()
        signal.set_wakeup_fd(self.wakeup)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        os.close(self.reader)
        os.close(self.writer)
        self.reader = self.writer = -1

    def note(self, number, _):
        self.noted.add(number)

    def wake(self):
        """From any thread."""
        with contextlib.suppress(OSError):  # full: it wakes anyway; closed: it is over
            os.write(self.writer, b"\0")

    def size(self):
        """(columns, lines)"""
        lines, columns = self.window.getmaxyx()
        return columns, lines

    def suspend(self):
        """Stops as the shell expects it; comes back when it is continued."""
        curses.endwin()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self.note)
        self.noted.add(signal.SIGCONT)

    def heed(self):
        """Does what signals have asked for."""
        for number in FATAL:
            if number in self.noted:
                raise Ended(number)
        noted, self.noted = self.noted, set()
        if signal.SIGTSTP in noted:
            self.suspend()
            noted |= self.noted
            self.noted = set()
        if signal.SIGCONT in noted:
            # Whoever had the terminal meanwhile may have left anything on it.
            curses.reset_prog_mode()
            self.window.clearok(True)
        if noted & {signal.SIGWINCH, signal.SIGCONT}:
            self.fit()

    def fit(self):
        with contextlib.suppress(OSError, curses.error):
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
            if (columns, lines) != self.size() and columns > 0 and lines > 0:
                curses.resizeterm(lines, columns)
                self.window.clearok(True)

    def draw(self, lines, cursor=None):
        """Lines of (text, style), from the top; cursor: (line, column), hidden otherwise."""
        columns, height = self.size()
        self.window.erase()
        for y, line in enumerate(lines[:height]):
            x = 0
            for text, style in line:
                if x >= columns:
                    break
                # The last cell of the screen cannot be written without an error, though it is written.
                with contextlib.suppress(curses.error):
                    self.window.addstr(y, x, text, self.styles.get(style, 0))
                x = self.window.getyx()[1] if self.window.getyx()[0] == y else columns
        with contextlib.suppress(curses.error):
            curses.curs_set(0 if cursor is None else 1)
            if cursor is not None:
                self.window.move(min(cursor[0], height - 1), min(cursor[1], columns - 1))
        self.window.refresh()

    def wait(self, seconds):
        """Keys, as characters and curses's numbers, after at most so long; none when something else woke us."""
        poll = select.poll()
        poll.register(sys.stdin, select.POLLIN)
        poll.register(self.reader, select.POLLIN)
        ready = dict(poll.poll(max(seconds, 0) * 1000))
        if self.reader in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self.reader, 4096)
        self.heed()
        if ready.get(sys.stdin.fileno(), 0) & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            raise Ended(None)
        keys = []
        while True:
            try:
                key = self.window.get_wch()
            except curses.error:
                break
            if key != curses.KEY_RESIZE:
                keys.append(key)
        self.empty = self.empty + 1 if not keys and ready.get(sys.stdin.fileno(), 0) else 0
        if self.empty > MOST_EMPTY:
            raise Ended(None)
        return keys
