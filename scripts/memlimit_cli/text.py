"""Errors for people, and sizes as people read and write them."""

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class UserError(Exception):
    """Something the user can act on: printed as one line, without a traceback; status 1."""


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


def table(rows, right=()):
    """Lines of left-aligned columns, those in `right` right-aligned; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        yield "  ".join(cells).rstrip()
