"""A flame graph of a heap profile as SVG: callers below, what they call above, as wide as what is alive there."""

from .svg import escape

WIDTH, ROW, FONT, MARGIN = 1200, 17, 11, 10
LEAST_WIDTH = 6  # pixels; narrower frames can be neither read nor pointed at, and the listing has them
CHARACTER = 6.4


class Frame:
    def __init__(self, name):
        self.name, self.bytes, self.callees = name, 0, {}

    def add(self, stack, amount):
        self.bytes += amount
        if stack:
            self.callees.setdefault(stack[0], Frame(stack[0])).add(stack[1:], amount)

    def depth(self, scale):
        deep = [callee.depth(scale) for callee in self.callees.values() if callee.bytes * scale >= LEAST_WIDTH]
        return 1 + max(deep, default=0)


def colour(name):
    """One for each name, the same in every picture: warm, as such graphs are."""
    number = 0
    for letter in name:
        number = (number * 31 + ord(letter)) & 0xFFFFFF
    return f"rgb({205 + number % 50},{90 + number // 50 % 120},{40 + number // 6000 % 40})"


def draw(frame, x, y, scale, total, spell, out):
    width = frame.bytes * scale
    if width < LEAST_WIDTH:
        return
    shown = frame.name if len(frame.name) * CHARACTER <= width - 4 else frame.name[: max(int((width - 4) / CHARACTER) - 1, 0)]
    label = f'<text x="{x + 2:.1f}" y="{y + ROW - 5}">{escape(shown)}</text>' if len(shown) > 2 else ""
    out.append(
        f'<g><title>{escape(frame.name)}: {spell(frame.bytes)}, {frame.bytes / total:.1%}</title>'
        f'<rect x="{x:.1f}" y="{y}" width="{width - 0.3:.1f}" height="{ROW - 1}" fill="{colour(frame.name)}"/>{label}</g>'
    )
    for callee in sorted(frame.callees.values(), key=lambda each: each.name):
        draw(callee, x, y - ROW, scale, total, spell, out)
        x += callee.bytes * scale


def svg(stacks, title, spell):
    """`stacks`: (names from the outermost in, bytes) pairs; `spell` writes bytes for people."""
    root = Frame("all")
    for names, amount in stacks:
        if amount > 0:
            root.add(names, amount)
    scale = (WIDTH - 2 * MARGIN) / max(root.bytes, 1)
    height = ROW * root.depth(scale) + 50
    out = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="DejaVu Sans Mono, monospace" font-size="{FONT}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
    ]
    draw(root, MARGIN, height - ROW - 8, scale, max(root.bytes, 1), spell, out)
    out.append("</svg>")
    return "\n".join(out) + "\n"
