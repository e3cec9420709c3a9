"""Errors for people, sizes as people read and write them, and text cut to a terminal's cells."""

import json
import unicodedata

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class UserError(Exception):
    """Something the user can act on: printed as one line, without a traceback."""

    status = 1  # of the command that ends with it


def printable(text, keep=""):
    """Text from another process, which may be anybody's: without bytes that steer a terminal."""
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)


def format_size(size_bytes):
    """At most four significant digits: 301 MiB, 1.46 GiB; the library's own format_size() in Python."""
    sign, amount = ("-", -size_bytes) if size_bytes < 0 else ("", size_bytes)
    power = 0
    while power < len(UNITS) - 1 and amount >= 1024 ** (power + 1):
        power += 1
    value = amount / 1024**power
    digits = 0 if power == 0 or value >= 100 else 1 if value >= 10 else 2
    shown = f"{value:.{digits}f}"
    if "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return f"{sign}{shown} {UNITS[power]}"


def format_seconds(seconds):
    """Two units at most: 12 s, 3 min 20 s, 5 h 2 min."""
    seconds = int(seconds)
    for size, name, smaller, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {name} {rest} {small_name}" if rest else f"{seconds // size} {name}"
    return f"{seconds} s"


def cells(text):
    """How many cells of a terminal a text takes: none for a combining mark, two for a wide character."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text, width):
    """What of a text fits into so many cells."""
    if len(text) <= width and text.isascii():
        return text
    taken, room = [], width
    for c in text:
        room -= cells(c)
        if room < 0:
            break
        taken.append(c)
    return "".join(taken)


def pad(text, width, right=False):
    """A text cut and filled to exactly so many cells."""
    text = cut(text, width)
    blanks = " " * (width - cells(text))
    return blanks + text if right else text + blanks


def table(rows, right=()):
    """Lines of left-aligned columns, those in `right` right-aligned; the first row is the head."""
    widths = [max(cells(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(pad(cell, w, i in right) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()


def wrap(text, width):
    """Lines of at most so many cells, broken at blanks; a longer word is cut."""
    line = ""
    for word in text.split():
        while cells(word) > width:
            if line:
                yield line
                line = ""
            head = cut(word, width)
            yield head
            word = word[len(head) :]
        longer = f"{line} {word}" if line else word
        if cells(longer) > width:
            yield line
            line = word
        else:
            line = longer
    if line:
        yield line


def print_json(value):
    """For programs: two blanks a level, keys in their order, ASCII alone, so that nothing in it steers a terminal."""
    print(json.dumps(value, indent=2))
