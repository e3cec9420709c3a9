"""`memlimit ps` and `memlimit top`: every process under the library, fullest first."""

import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty

from . import processes
from .text import UserError, format_size, table

LEVELS = ("low", "moderate", "critical", "over")
COLOURS = {"low": "\x1b[32m", "moderate": "\x1b[33m", "critical": "\x1b[31m", "over": "\x1b[1;31m"}
RESET = "\x1b[0m"
BAR_WIDTH = 11
COLUMNS = 80


class Row:
    """One process with its figures; `figures` is empty when it has no socket."""

    def __init__(self, process, figures):
        self.process = process
        self.figures = figures
        self.limit = figures.get("limit", 0)
        self.used = figures.get("paced", figures.get("heap_alloc", 0))
        self.share = self.used / self.limit if self.limit > 0 else None
        number = figures.get("level", 0)
        self.level = LEVELS[number] if 0 <= number < len(LEVELS) else str(number)

    def sort_key(self):
        return (self.share is None, -(self.share or 0), -self.used, self.process.pid)


def rows(which=()):
    """Of the processes of these pids and names; of all, if none are given."""
    found = []
    for process in processes.find_all():
        if which and str(process.pid) not in which and process.name not in which:
            continue
        figures = {}
        if process.address is not None:
            try:
                figures = process.stat()
            except processes.WrongPeer:
                pass  # it has none of its own
            except UserError:
                continue  # it ended in between, or is not ours to see
        found.append(Row(process, figures))
    return sorted(found, key=Row.sort_key)


def size(figures, key):
    return format_size(figures[key]) if key in figures else "-"


def ps_lines(which):
    lines = [("PID", "NAME", "HEAP", "LIMIT", "USE", "LEVEL", "RSS", "ROUNDS")]
    for row in rows(which):
        known = bool(row.figures)
        lines.append(
            (
                str(row.process.pid),
                row.process.name,
                size(row.figures, "heap_alloc"),
                (format_size(row.limit) if row.limit > 0 else "off") if known else "-",
                f"{row.share:.0%}" if row.share is not None else "-",
                row.level if known else "-",
                size(row.figures, "rss_anon"),
                str(row.figures.get("rounds", "-")),
            )
        )
    return lines


def ps(which):
    lines = ps_lines(which)
    if len(lines) == 1:
        called = f" and is called {' or '.join(which)}" if which else ""
        print(f"memlimit: no process runs under memlimit that this user may see{called}", file=sys.stderr)
        return 1
    for line in table(lines, right=(0, 2, 3, 4, 6, 7)):
        print(line)
    return 0


def shows_blocks():
    try:
        "█▏·".encode(sys.stdout.encoding or "ascii")
        return True
    except UnicodeEncodeError:
        return False


def bar(share, blocks):
    """With `blocks` in eighths of a cell, so that a slow climb is seen."""
    filled = min(max(share, 0.0), 1.0) * BAR_WIDTH
    if not blocks:
        return ("#" * round(filled)).ljust(BAR_WIDTH, ".")
    whole, part = divmod(round(filled * 8), 8)
    text = "█" * whole + ("▏▎▍▌▋▊▉"[part - 1] if part else "")
    return text.ljust(BAR_WIDTH, "·")


class Rates:
    """Rounds a second of each process since the last picture."""

    def __init__(self):
        self.before = {}  # pid: (time, rounds)
        self.now = {}

    def of(self, row, now):
        pid, rounds = row.process.pid, row.figures.get("rounds", 0)
        self.now[pid] = (now, rounds)
        then, rounds_then = self.before.get(pid, (now, rounds))
        # A process that took over the pid has fewer.
        return max(rounds - rounds_then, 0) / (now - then) if now > then else 0.0

    def next_picture(self):
        self.before, self.now = self.now, {}


def frame(colour, rates, height=None, which=()):
    """The lines of one picture, in 80 columns; what does not fit the height is counted in the last."""
    found = rows(which)
    now = time.monotonic()
    blocks = shows_blocks()
    lines = [
        f"memlimit top  {time.strftime('%H:%M:%S')}  {len(found)} process{'es' if len(found) != 1 else ''}",
        "",
        f"{'PID':>7} {'NAME':<12} {'':{BAR_WIDTH}} {'USE':>4} {'HEAP':>8} {'RSS':>8} {'LIMIT':>8} {'LEVEL':<8} {'RND/s':>5}",
    ]
    room = len(found) if height is None else height - len(lines)
    shown = found if len(found) <= room else found[: max(room - 1, 0)]
    for row in shown:
        head = f"{row.process.pid:>7} {row.process.name[:12]:<12}"
        if not row.figures:
            lines.append(f"{head} no socket: {processes.why_no_socket(row.process.pid)}"[:COLUMNS])
            continue
        share = f"{min(row.share, 9.99):.0%}" if row.share is not None else "-"
        limit = format_size(row.limit) if row.limit > 0 else "off"
        meter = bar(row.share or 0.0, blocks)
        level = f"{row.level:<8}"
        if colour:
            meter = COLOURS.get(row.level, "") + meter + RESET
            level = COLOURS.get(row.level, "") + level + RESET
        heap, rss = size(row.figures, "heap_alloc"), size(row.figures, "rss_anon")
        rate = min(rates.of(row, now), 999.9)
        lines.append(f"{head} {meter} {share:>4} {heap:>8} {rss:>8} {limit:>8} {level} {rate:>5.1f}")
    rates.next_picture()
    if len(shown) < len(found):
        lines.append(f"... and {len(found) - len(shown)} more")
    return lines


@contextlib.contextmanager
def screen():
    """The alternate screen with keys unbuffered; put back whatever happens."""
    saved = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)


def top(interval_s, count, which):
    rates = Rates()
    live = sys.stdout.isatty() and sys.stdin.isatty()
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if not live:
        # A pipe or a file gets plain pictures one below the other, one unless more were asked for.
        for number in range(count or 1):
            if number:
                time.sleep(interval_s)
                print()
            print("\n".join(frame(colour, rates, None, which)), flush=True)
        return 0
    with screen():
        shown = 0
        while not count or shown < count:
            height = shutil.get_terminal_size().lines
            lines = frame(colour, rates, height - 1, which)[: height - 1]
            sys.stdout.write("\x1b[H\x1b[J" + "\n".join(lines) + "\n\x1b[2mq quits\x1b[0m")
            sys.stdout.flush()
            shown += 1
            if select.select([sys.stdin], [], [], interval_s)[0] and sys.stdin.read(1) in "qQ\x1b":
                break
    return 0
