"""`memlimit top` as a program that reacts: what each key does, and which page is shown.

Knows no terminal: keys come in as characters and names, pictures go out as lines of (text, style). What may take long
(a process that is slow to answer) runs on a thread of its own.
"""

import re
import threading

from . import detail, listing, rows
from .text import UserError, cells, cut, format_size, printable

ESCAPE, ENTER, ERASE = "\x1b", ("\n", "\r"), ("\x7f", "\b", "BACKSPACE")
MAX_LIMIT_CHARACTERS = 24
UNIT_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
HELP = (
    ("up down PgUp PgDn", "choose a process (j and k, too)"),
    ("Home End", "the first, the last"),
    ("Enter", "its page: figures, hooks, heap, events, doctor"),
    ("< >", "sort by the column before, after"),
    ("r", "the other way round"),
    ("/", "show only what has a text in it; Esc: all"),
    ("l", "change its limit (asks before it does)"),
    ("space", "stop the pictures, go on"),
    ("d", "seconds between pictures"),
    ("h ?", "this page"),
    ("q", "leave"),
)
LEGEND = (
    "PACED is the number that is held to the limit (MEMLIMIT_ACCOUNT), USE its share of the limit, HEAP live blocks, RSS "
    "anonymous memory in the kernel's eyes, RND/s reclaim rounds a second. LEVEL: low, moderate from MEMLIMIT_START on, "
    "critical near the limit, over."
)


def size_of(limit):
    """The bytes of a size; None for what is none (80%, auto, off) or is written wrongly."""
    found = re.fullmatch(r"(\d+)([KMGT]iB|B|)", limit)
    return int(found[1]) * UNIT_BYTES[found[2]] if found else None


class Prompt:
    """A line of input at the bottom."""

    def __init__(self, text, done, most=60, changed=None):
        self.text, self.done, self.most, self.changed = text, done, most, changed
        self.typed = ""

    def key(self, key):
        """False when it is over."""
        if key in ENTER:
            self.done(self.typed)
            return False
        if key == ESCAPE:
            if self.changed is not None:
                self.changed("")
            return False
        if key in ERASE:
            self.typed = self.typed[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.typed) < self.most:
            self.typed += key
        if self.changed is not None:
            self.changed(self.typed)
        return True


class App:
    def __init__(self, sampler, wake, blocks=True):
        self.sampler, self.wake, self.blocks = sampler, wake, blocks
        self.sort, self.reverse, self.filter = "USE", False, ""
        self.selected = None  # a pid
        self.page = None  # a detail.Page
        self.help = False
        self.prompt = None
        self.question = None  # (text, what yes does)
        self.message = ""
        self.height = 24

    # --- What is shown ---

    def shown(self):
        """The rows that the filter lets through, in their order."""
        found = rows.ordered(self.sampler.rows, self.sort, self.reverse)
        if self.filter:
            wanted = self.filter.lower()
            found = [
                row for row in found
                if any(wanted in text.lower() for text in (row.process.name, row.user, row.container, str(row.process.pid)))
            ]
        return found

    def picture(self, width, height):
        self.height = height
        body = max(height - 1, 0)
        if self.help:
            lines = help_page(width)[:body]
        elif self.page is not None:
            lines = self.page.picture(width, body)
        else:
            found = self.shown()
            if found and self.selected not in {row.process.pid for row in found}:
                self.selected = found[0].process.pid
            lines = listing.picture(
                found, width, body, self.sort, self.reverse, self.blocks, self.selected,
                filter_text=self.filter, paused=self.sampler.paused,
            )
            if not found:
                none = "nothing has that in it (Esc shows all)" if self.filter else self.nobody()
                lines.append([(cut(none, width), "dim")])
        lines = lines[:body] + [[]] * (body - len(lines))
        return [*lines, self.foot(width)] if height > 0 else []

    def nobody(self):
        if self.sampler.looks == 0:
            return "looking ..."
        return "no process runs under memlimit that this user may see"

    def foot(self, width):
        if self.question is not None:
            return [(cut(f"{self.question[0]} y/n", width), "bold")]
        if self.prompt is not None:
            # The end is what is being typed.
            text = f"{self.prompt.text}{self.prompt.typed}"
            while cells(text) >= width > 0 and text:
                text = text[1:]
            return [(text, "bold")]
        if self.message:
            return [(cut(self.message, width), "bold")]
        if self.page is not None:
            keys = "Tab next page  l limit  Esc back  q quit"
        else:
            keys = "h help  Enter page  < > sort  / filter  l limit  q quit"
        if self.help:
            keys = "any key goes back"
        return [(cut(keys, width), "dim")]

    def cursor(self, width, height):
        """Where typing goes on; None where nothing is typed."""
        if self.prompt is None or self.question is not None:
            return None
        return height - 1, min(cells(self.prompt.text + self.prompt.typed), width - 1)

    # --- What keys do ---

    def key(self, key):
        """False to leave."""
        self.message = ""
        if self.question is not None:
            _, action = self.question
            self.question = None
            if key in ("y", "Y"):
                action()
            else:
                self.message = "nothing is changed"
        elif self.prompt is not None:
            prompt = self.prompt
            if not prompt.key(key) and self.prompt is prompt:
                self.prompt = None
        elif self.help:
            self.help = False
        elif key in ("q", "Q"):
            self.close()
            return False
        elif key in ("h", "?", "F1"):
            self.help = True
        elif key == "l":
            self.ask_limit()
        elif key == " ":
            self.sampler.paused = not self.sampler.paused
            self.sampler.at_once.set()
        elif self.page is not None:
            if key in (ESCAPE, "LEFT"):
                self.close()
            else:
                self.page.key(key, self.height)
        else:
            self.list_key(key)
        return True

    def close(self):
        if self.page is not None:
            self.page.close()
            self.page = None

    def list_key(self, key):
        titles = listing.SORTABLE
        if key == ESCAPE:
            self.filter = ""
        elif key in ("<", ">", ",", "."):
            step = 1 if key in (">", ".") else -1
            self.sort = titles[(titles.index(self.sort) + step) % len(titles)]
            self.reverse = False
            self.message = f"sorted by {self.sort}"
        elif key == "r":
            self.reverse = not self.reverse
        elif key == "/":
            self.prompt = Prompt("show only: ", self.set_filter, changed=self.set_filter)
        elif key == "d":
            self.prompt = Prompt(f"seconds between pictures (now {self.sampler.interval_s:g}): ", self.set_interval)
        elif key in (*ENTER, "RIGHT"):
            if (row := self.chosen()) is not None:
                self.page = detail.Page(row.process, self.wake, self.sampler.interval_s)
        else:
            self.move(key)

    def move(self, key):
        pids = [row.process.pid for row in self.shown()]
        if not pids:
            return
        page = max(self.height - 5, 1)
        at = pids.index(self.selected) if self.selected in pids else 0
        steps = {"UP": -1, "k": -1, "DOWN": 1, "j": 1, "PPAGE": -page, "NPAGE": page, "HOME": -len(pids), "END": len(pids)}
        self.selected = pids[min(max(at + steps.get(key, 0), 0), len(pids) - 1)]

    def chosen(self):
        return next((row for row in self.sampler.rows if row.process.pid == self.selected), None)

    def set_filter(self, text):
        self.filter = text

    def set_interval(self, text):
        try:
            seconds = float(text)
            if not 0.1 <= seconds <= 3600:
                raise ValueError
        except ValueError:
            self.message = "a number of seconds, from 0.1 to 3600: nothing is changed"
            return
        self.sampler.interval_s = seconds
        self.sampler.at_once.set()

    # --- The limit ---

    def ask_limit(self):
        row = self.chosen()
        if row is None or not row.figures:
            self.message = "this process tells no figures, and takes no limit" if row else ""
            return
        now = row.limit_text()
        self.prompt = Prompt(
            f"new limit of {row.process.pid} {row.process.name} (now {now}): ",
            lambda text: self.confirm_limit(row, text.strip()), MAX_LIMIT_CHARACTERS,
        )

    def confirm_limit(self, row, limit):
        if not limit:
            self.message = "nothing is changed"
            return
        size = size_of(limit)
        warning = ""
        if size is not None and 0 < size < row.used:
            warning = f" It holds {format_size(row.used)}: it will be over at once."
        question = f"{row.process.pid} {row.process.name}: limit {row.limit_text()} -> {printable(limit)}?{warning}"
        self.question = (question, lambda: self.in_background(lambda: self.set_limit(row.process, limit)))

    def set_limit(self, process, limit):
        try:
            process.ask(f"limit={limit}")
            after = process.stat().get("limit", 0)
            said = f"{process.pid} {process.name}: the limit is {format_size(after) if after > 0 else 'off'} now"
        except UserError as error:
            said = str(error)
        self.message = said
        self.sampler.at_once.set()
        self.wake()

    def in_background(self, action):
        self.message = "asking ..."
        threading.Thread(target=action, daemon=True).start()


def help_page(width):
    lines = [[("memlimit top: keys", "bold")], []]
    most = max(len(keys) for keys, _ in HELP)
    for keys, meaning in HELP:
        lines.append([(f"  {keys:<{most}}  ", "key"), (cut(meaning, max(width - most - 4, 0)), "")])
    lines.append([])
    lines += [[(line, "dim")] for line in detail.wrapped(LEGEND, width)]
    return lines


def blocks_can_be_shown(encoding):
    try:
        "█▏·".encode(encoding or "ascii")
        return True
    except (UnicodeEncodeError, LookupError):
        return False
