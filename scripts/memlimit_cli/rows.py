"""What ps and top show of a process: its row, and every column with its title, text and order."""

import dataclasses
from collections.abc import Callable

from .text import format_size

LEVELS = ("low", "moderate", "critical", "over")


class Row:
    """One process with its figures; `figures` is empty when it told none."""

    def __init__(self, answer):
        self.answer = answer
        self.process = answer.process
        self.figures = answer.figures
        self.limit = self.figures.get("limit", 0)
        self.used = self.figures.get("paced", self.figures.get("heap_alloc", 0))
        self.share = self.used / self.limit if self.limit > 0 else None
        self.rate = 0.0  # rounds a second, where a picture before this one is known
        number = self.figures.get("level", 0)
        self.level = LEVELS[number] if 0 <= number < len(LEVELS) else str(number)
        if not self.figures:
            self.level = "no answer" if answer.silent else "no socket"

    def __getattr__(self, name):
        return getattr(self.answer, name)

    def fullness(self):
        """The order that has the process first that is next to be in trouble; who does not answer may well be."""
        return (self.answer.silent, self.share is not None, self.share or 0, self.used)

    def size(self, key):
        return format_size(self.figures[key]) if key in self.figures else "-"

    def limit_text(self):
        if not self.figures:
            return "-"
        return format_size(self.limit) if self.limit > 0 else "off"

    def share_text(self):
        return f"{min(self.share, 9.99):.0%}" if self.share is not None else "-"

    def paced_text(self):
        return format_size(self.used) if self.figures else "-"


@dataclasses.dataclass(frozen=True)
class Column:
    title: str
    width: int  # in top; 0: what is left
    right: bool
    text: Callable
    order: Callable  # what rows are sorted by; the largest comes first unless `rises`
    rises: bool = False


COLUMNS = (
    Column("PID", 7, True, lambda row: str(row.process.pid), lambda row: row.process.pid, True),
    Column("USER", 8, False, lambda row: row.user, lambda row: row.user, True),
    Column("NAME", 12, False, lambda row: row.process.name, lambda row: row.process.name, True),
    Column("CONTAINER", 18, False, lambda row: row.container, lambda row: row.container, True),
    Column("PACED", 8, True, Row.paced_text, lambda row: row.used),
    Column("LIMIT", 8, True, Row.limit_text, lambda row: row.limit),
    Column("USE", 4, True, Row.share_text, Row.fullness),
    Column("LEVEL", 9, False, lambda row: row.level, lambda row: (row.answer.silent, row.figures.get("level", -1))),
    Column("HEAP", 8, True, lambda row: row.size("heap_alloc"), lambda row: row.figures.get("heap_alloc", -1)),
    Column("RSS", 8, True, lambda row: row.size("rss_anon"), lambda row: row.figures.get("rss_anon", -1)),
    Column("ROUNDS", 7, True, lambda row: str(row.figures.get("rounds", "-")), lambda row: row.figures.get("rounds", -1)),
)
RATE = Column("RND/s", 5, True, lambda row: f"{min(row.rate, 999.9):.1f}" if row.figures else "-", lambda row: row.rate)
BY_TITLE = {column.title: column for column in (*COLUMNS, RATE)}


def ordered(rows, title="USE", reverse=False):
    """By a column; rows that are equal in it stand as their pids do."""
    column = BY_TITLE[title]
    rows = sorted(rows, key=lambda row: row.process.pid)
    return sorted(rows, key=column.order, reverse=column.rises == reverse)


def make(answers):
    return [Row(answer) for answer in answers]
