"""The picture of `memlimit top`: rows and columns for a width and a height, as text with styles.

Pure: a line is a list of (text, style); the screen and the plain output put them where they belong.
"""

import time

from . import rows
from .text import cells, cut, pad

BAR = "bar"
BAR_WIDTH = 11
NAME_LEAST, NAME_MOST = 8, 15
# As they stand in a line, and in which order they come in as it grows wider. 40 cells hold the first five, 80 nine.
ORDER = ("PID", "USER", "NAME", "CONTAINER", BAR, "USE", "PACED", "HEAP", "RSS", "LIMIT", "LEVEL", "RND/s")
ALWAYS = ("PID", "NAME", "USE", "PACED", "LEVEL")
WHERE_WIDE = ("LIMIT", "RND/s", "RSS", BAR, "HEAP", "USER", "CONTAINER")
SORTABLE = tuple(title for title in ORDER if title != BAR)


def width_of(title):
    return BAR_WIDTH if title == BAR else rows.BY_TITLE[title].width


def layout(width):
    """[(title, width)] for a line of so many cells."""
    widths = {title: width_of(title) for title in ALWAYS}
    widths["NAME"] = NAME_LEAST
    need = sum(widths.values()) + len(widths) - 1
    usual = width_of("NAME") - NAME_LEAST
    for title in WHERE_WIDE:
        if need + 1 + width_of(title) + usual > width:
            break
        widths[title] = width_of(title)
        need += 1 + width_of(title)
    more = max(width - need, 0)
    widths["NAME"] += min(more, NAME_MOST - NAME_LEAST if "USER" in widths else usual)
    if "CONTAINER" in widths:
        widths["CONTAINER"] += max(width - need - (widths["NAME"] - NAME_LEAST), 0)
    return [(title, widths[title]) for title in ORDER if title in widths]


def bar(share, blocks, width=BAR_WIDTH):
    """With `blocks` in eighths of a cell, so that a slow climb is seen."""
    filled = min(max(share, 0.0), 1.0) * width
    if not blocks:
        return ("#" * round(filled)).ljust(width, ".")
    whole, part = divmod(round(filled * 8), 8)
    text = "█" * whole + ("▏▎▍▌▋▊▉"[part - 1] if part else "")
    return text.ljust(width, "·")


def head_of(columns, sort, reverse):
    line = []
    for title, width in columns:
        right = title != BAR and rows.BY_TITLE[title].right
        shown = "" if title == BAR else title
        if title == sort:
            shown = (title + ("^" if reverse else ""))[-width:] if right else (title + ("^" if reverse else ""))[:width]
        line += [(pad(shown, width, right), "sorted" if title == sort else "head"), (" ", "head")]
    return line[:-1]


def line_of(row, columns, width, blocks):
    """A process that tells no figures has the reason in their place."""
    line, taken = [], 0
    for title, column_width in columns:
        if not row.figures and title not in ("PID", "USER", "NAME", "CONTAINER"):
            said = row.problem or "no socket: it is small"
            line.append((cut(said, max(width - taken, 0)), "dim" if not row.problem else "critical"))
            return line
        if title == BAR:
            line += [(bar(row.share or 0.0, blocks, column_width), row.level), (" ", "")]
        else:
            column = rows.BY_TITLE[title]
            line += [(pad(column.text(row), column_width, column.right), row.level if title == "LEVEL" else ""), (" ", "")]
        taken += column_width + 1
    return line[:-1]


def title_of(found, width, filter_text="", paused=False):
    over = sum(row.level == "over" for row in found)
    silent = sum(row.answer.silent for row in found)
    parts = [f"memlimit top  {time.strftime('%H:%M:%S')}", f"{len(found)} process{'es' if len(found) != 1 else ''}"]
    parts += [f"{over} over"] if over else []
    parts += [f"{silent} silent"] if silent else []
    parts += [f"/{filter_text}"] if filter_text else []
    parts += ["PAUSED"] if paused else []
    return [(cut("  ".join(parts), width), "bold")]


def picture(found, width, height=None, sort="USE", reverse=False, blocks=True, selected=None, **title):
    """Every line; what does not fit the height is left out around the selected process, and counted in the last."""
    columns = layout(width)
    lines = [title_of(found, width, **title), head_of(columns, sort, reverse)]
    room = len(found) if height is None else max(height - len(lines), 0)
    first, shown = 0, found
    if len(found) > room:
        room = max(room - 1, 0)
        at = next((i for i, row in enumerate(found) if row.process.pid == selected), 0)
        first = min(max(at - room + 1, 0), max(len(found) - room, 0))
        shown = found[first : first + room]
    for row in shown:
        line = line_of(row, columns, width, blocks)
        if row.process.pid == selected:
            text = "".join(part for part, _ in line)
            line = [(text + " " * max(width - cells(text), 0), "selected")]
        lines.append(line)
    if len(shown) < len(found):
        above, below = first, len(found) - first - len(shown)
        more = [f"{above} more above"] * bool(above) + [f"{below} more below"] * bool(below)
        lines.append([(cut("... " + ", ".join(more), width), "dim")])
    return lines


def plain(line):
    return "".join(text for text, _ in line).rstrip()
