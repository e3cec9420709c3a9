"""Just enough of SVG to draw a diagram: scales, ticks, lines, areas, text. Valid XML, whatever the text."""

import math

from .text import printable

FONT = "DejaVu Sans, Verdana, Arial, sans-serif"
MOST_POINTS = 1500  # of a line: more than a screen has columns


def escape(words):
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def quoteattr(words):
    return '"' + escape(words).replace('"', "&quot;") + '"'


def number(value):
    return f"{value:.1f}".removesuffix(".0")


def attributes(given):
    return "".join(f" {key.replace('_', '-')}={quoteattr(str(value))}" for key, value in given.items() if value is not None)


class Picture:
    def __init__(self, width, height, title):
        self.width, self.height = width, height
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'role="img" font-family={quoteattr(FONT)} font-size="12">',
            f"<title>{escape(printable(title))}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def add(self, tag, **given):
        self.parts.append(f"<{tag}{attributes(given)}/>")

    def text(self, x, y, words, anchor="start", size=None, fill="#333333", weight=None, turned=False):
        turn = f"rotate(-90 {number(x)} {number(y)})" if turned else None
        given = attributes({
            "x": number(x), "y": number(y), "text_anchor": anchor, "font_size": size, "fill": fill, "font_weight": weight, "transform": turn,
        })
        self.parts.append(f"<text{given}>{escape(printable(words))}</text>")

    def line(self, x1, y1, x2, y2, **given):
        self.add("line", x1=number(x1), y1=number(y1), x2=number(x2), y2=number(y2), **given)

    def rect(self, x, y, width, height, **given):
        self.add("rect", x=number(x), y=number(y), width=number(max(width, 0)), height=number(max(height, 0)), **given)

    def path(self, points, **given):
        """Through (x, y)."""
        if points:
            self.add("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), **given)

    def group(self, **given):
        self.parts.append(f"<g{attributes(given)}>")

    def end_group(self):
        self.parts.append("</g>")

    def finish(self):
        return "\n".join([*self.parts, "</svg>"]) + "\n"


class Scale:
    """From values to places."""

    def __init__(self, low, high, begin, end):
        self.low, self.high, self.begin, self.end = low, high if high > low else low + 1, begin, end

    def __call__(self, value):
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def step_for(span, most, bases=(1, 2, 5)):
    """The least round step that makes at most so many."""
    power = 10.0 ** math.floor(math.log10(span / most)) if span > 0 else 1.0
    for factor in (1, 10):
        for base in bases:
            if span / (base * power * factor) <= most:
                return base * power * factor
    return 100 * power


def ticks(low, high, most):
    step = step_for(high - low, most)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)], step


SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def time_ticks(span, most):
    """Of seconds: whole minutes and hours where it is long."""
    if span < most:
        return ticks(0, span, most)
    step = next((step for step in SECONDS if span / step <= most), 86400 * math.ceil(span / 86400 / most))
    return [i * step for i in range(int(span / step) + 1)], step


def thinned(points):
    """The least and the largest of each stretch: a picture of many points that shows what a picture of all would."""
    if len(points) <= MOST_POINTS:
        return points
    kept, size = [], math.ceil(len(points) / (MOST_POINTS / 2))
    for at in range(0, len(points), size):
        stretch = points[at : at + size]
        ends = {stretch.index(min(stretch, key=lambda p: p[1])), stretch.index(max(stretch, key=lambda p: p[1]))}
        kept += [stretch[i] for i in sorted({0, *ends})]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
