"""`memlimit plot`: a picture of a recording, as SVG that is written here; as PNG where a converter is installed.

Above: what is held to the limit, the heap, RSS and the cgroup against the limit, with a mark for each event. Below:
rounds a second. The legend stands beside, where it covers nothing.
"""

import datetime
import os
import shutil
import subprocess

from . import recording, svg
from .text import UserError, format_seconds, format_size

WIDTH, HEIGHT = 1000, 560
LEFT, RIGHT = 74, 760  # of the diagrams; the legend is right of it
TOP, MIDDLE, LOW, BOTTOM = 58, 380, 400, 490
LEGEND = RIGHT + 20
RSS, HEAP, PACED, GROUP, OTHER, LIMIT = "#c9d7e8", "#2e9e8f", "#1f4fa8", "#9a6b1f", "#7a7a7a", "#b3261e"
GRID, INK, FAINT = "#e4e4e4", "#333333", "#777777"
UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
# Of events. What is bad is red, what somebody did is black.
MARKS = {"limiter_on": LIMIT, "room_low": LIMIT, "hook_overran": "#d9822b", "no_answer": "#d9822b", "limit": INK}
OTHER_MARK = "#6a4fa3"
MOST_KINDS = 8
CONVERTERS = (("rsvg-convert", ["-o", "{png}", "{svg}"]), ("inkscape", ["--export-type=png", "--export-filename={png}", "{svg}"]))


def unit_for(most):
    return next(((size, name) for size, name in UNITS if most >= 2 * size), (1, "bytes"))


def stretches(times, values):
    """The runs of samples without a gap: who did not answer has no figures, not those before."""
    gaps = [b - a for a, b in zip(times, times[1:])]
    longest = max(1.0, 8 * sorted(gaps)[len(gaps) // 2]) if gaps else 1.0
    run = []
    for time, value in zip(times, values):
        if run and time - run[-1][0] > longest:
            yield run
            run = []
        run.append((time, value))
    yield run


class Diagram:
    def __init__(self, recorded, other, title):
        self.recorded, self.other = recorded, other
        self.columns, self.times = recorded.columns, recorded.times
        self.picture = svg.Picture(WIDTH, HEIGHT, title)
        happened = [time for time, *_ in recorded.events]
        self.span = max(self.times[-1], other.times[-1] if other else 0, 0.001, *happened)
        self.x = svg.Scale(0, self.span, LEFT, RIGHT)
        most = max((max(self.values(key), default=0) for key in ("limit", "paced", "heap_alloc", "rss_anon", "cgroup_used")), default=0)
        if other:
            most = max(most, *other.columns.get("rss_anon", [0]))
        self.unit, self.unit_name = unit_for(most)
        self.most = most * 1.06 / self.unit or 1
        self.y = svg.Scale(0, self.most, MIDDLE, TOP)
        self.legend = []  # (kind, colour, words)

    def values(self, key):
        return self.columns.get(key, [])

    def has(self, key):
        return any(self.values(key))

    def draw(self, title, subtitle):
        self.picture.text(LEFT, 24, title, size=16, weight="bold")
        self.picture.text(LEFT, 43, subtitle, fill=FAINT)
        self.draw_axes()
        self.draw_let_go()
        if self.has("rss_anon"):
            self.area("rss_anon", RSS)
            self.legend.append(("area", RSS, "RSS (anonymous)"))
        if self.other and any(self.other.columns.get("rss_anon", [])):
            self.curve(self.other.times, self.other.columns["rss_anon"], OTHER, 1.2)
            self.legend.append(("line", OTHER, "RSS of the other recording"))
        for key, colour, width, words in (
            ("cgroup_used", GROUP, 1.4, "its cgroup, working set"), ("heap_alloc", HEAP, 1.5, "heap (live blocks)"),
            ("paced", PACED, 2.2, "paced: held to the limit"),
        ):
            if self.has(key):
                self.curve(self.times, self.values(key), colour, width)
                self.legend.append(("line", colour, words))
        if self.has("limit"):
            self.draw_limit()
        self.draw_events()
        self.draw_rounds()
        self.draw_legend()
        return self.picture.finish()

    def draw_axes(self):
        p = self.picture
        levels, step = svg.ticks(0, self.most, 7)
        for level in levels:
            y = self.y(level)
            p.line(LEFT, y, RIGHT, y, stroke=GRID)
            p.text(LEFT - 8, y + 4, f"{level:g}" if step >= 1 else f"{level:.2f}".rstrip("0").rstrip("."), "end")
        p.text(20, (TOP + MIDDLE) / 2, self.unit_name, "middle", turned=True)
        seconds, step = svg.time_ticks(self.span, 8)
        clock = self.columns.get("clock")
        started = clock[0] - self.times[0] if clock else None
        for second in seconds:
            x = self.x(second)
            p.line(x, TOP, x, BOTTOM, stroke=GRID)
            p.text(x, BOTTOM + 18, f"{second:g}" if step < 60 else short_time(second), "middle")
            if started is not None:
                at = datetime.datetime.fromtimestamp(started + second)
                p.text(x, BOTTOM + 34, at.strftime("%H:%M:%S") if step >= 1 else at.strftime("%H:%M:%S.%f")[:-5], "middle", size=10, fill=FAINT)
        p.text((LEFT + RIGHT) / 2, BOTTOM + 54, "seconds since the beginning" + (", and time of day" if started is not None else ""), "middle")
        for top, bottom in ((TOP, MIDDLE), (LOW, BOTTOM)):
            p.rect(LEFT, top, RIGHT - LEFT, bottom - top, fill="none", stroke="#999999")

    def curve(self, times, values, colour, width):
        for run in stretches(times, values):
            points = svg.thinned([(self.x(t), self.y(v / self.unit)) for t, v in run])
            self.picture.path(points, fill="none", stroke=colour, stroke_width=width, stroke_linejoin="round")

    def area(self, key, colour):
        for run in stretches(self.times, self.values(key)):
            points = svg.thinned([(self.x(t), self.y(v / self.unit)) for t, v in run])
            self.picture.path([(points[0][0], MIDDLE), *points, (points[-1][0], MIDDLE)], fill=colour, stroke="none")

    def draw_limit(self):
        """A limit stands until it is changed, and there may be none for a while."""
        for run in self.runs_of(lambda i: self.values("limit")[i] > 0):
            points = []
            for i in run:
                x, y = self.x(self.times[i]), self.y(self.values("limit")[i] / self.unit)
                if points and points[-1][1] != y:
                    points.append((x, points[-1][1]))
                if len(points) > 1 and points[-1][1] == y == points[-2][1]:
                    points.pop()
                points.append((x, y))
            self.picture.path(points, fill="none", stroke=LIMIT, stroke_width=1.8, stroke_dasharray="7 4")
        limits = sorted({int(limit) for limit in self.values("limit") if limit > 0})
        words = " to ".join(dict.fromkeys(format_size(limit) for limit in (limits[0], limits[-1])))
        self.legend.append(("dashes", LIMIT, f"limit, {words}"))

    def runs_of(self, holds):
        """Neighbouring samples for which it holds."""
        run = []
        for i in range(len(self.times)):
            if holds(i):
                run.append(i)
            elif run:
                yield run
                run = []
        if run:
            yield run

    def draw_let_go(self):
        if not self.has("limiter_on"):
            return
        for run in self.runs_of(lambda i: self.values("limiter_on")[i] > 0):
            begin, end = self.x(self.times[run[0]]), self.x(self.times[min(run[-1] + 1, len(self.times) - 1)])
            self.picture.rect(begin, TOP, max(end - begin, 1), MIDDLE - TOP, fill=LIMIT, fill_opacity=0.13)
        self.legend.append(("band", LIMIT, "limit let go"))

    def draw_events(self):
        marks = [*self.recorded.events, *((t, "process", f"{pid} {name}") for t, pid, name in self.recorded.processes)]
        counts = {}
        for time, kind, words in marks:
            if not 0 <= time <= self.span:
                continue
            counts[kind] = counts.get(kind, 0) + 1
            x, colour = self.x(time), MARKS.get(kind, OTHER_MARK)
            self.picture.group()
            self.picture.parts.append(f"<title>{svg.escape(f'{time:.2f} s: {kind} {words}')}</title>")
            self.picture.line(x, TOP, x, MIDDLE, stroke=colour, stroke_width=0.7, stroke_dasharray="1 3")
            self.picture.path([(x - 5, TOP - 8), (x + 5, TOP - 8), (x, TOP)], fill=colour)
            self.picture.end_group()
        most = sorted(counts.items(), key=lambda pair: (MARKS.get(pair[0], OTHER_MARK) == OTHER_MARK, -pair[1]))
        for kind, count in most[:MOST_KINDS]:
            self.legend.append(("mark", MARKS.get(kind, OTHER_MARK), f"{kind}, {count} time{'s' * (count != 1)}"))
        if len(most) > MOST_KINDS:
            self.legend.append(("mark", OTHER_MARK, f"and {len(most) - MOST_KINDS} other kinds"))

    def draw_rounds(self):
        rounds = self.values("rounds") or [0.0] * len(self.times)
        rates = []
        for i in range(1, len(self.times)):
            span = self.times[i] - self.times[i - 1]
            # Of another process, after a wrapper, there are fewer.
            rates.append((self.times[i - 1], self.times[i], max(rounds[i] - rounds[i - 1], 0) / span if span > 0 else 0.0))
        most = max((rate for _, _, rate in rates), default=0) or 1
        y = svg.Scale(0, most * 1.1, BOTTOM, LOW)
        for level in svg.ticks(0, most * 1.1, 3)[0]:
            self.picture.text(LEFT - 8, y(level) + 4, f"{level:g}", "end", size=11)
        for begin, end, rate in rates:
            if rate:
                width = max(self.x(end) - self.x(begin), 0.8)
                self.picture.rect(self.x(begin), y(rate), width, BOTTOM - y(rate), fill=OTHER)
        self.picture.text(20, (LOW + BOTTOM) / 2, "rounds/s", "middle", size=11, turned=True)
        self.picture.text(LEGEND, LOW + 12, f"{int(max(rounds) - min(rounds))} rounds", fill=FAINT)

    def draw_legend(self):
        y = TOP + 8
        for kind, colour, words in self.legend:
            p, middle = self.picture, y - 4
            if kind == "line":
                p.line(LEGEND, middle, LEGEND + 22, middle, stroke=colour, stroke_width=2.2)
            elif kind == "dashes":
                p.line(LEGEND, middle, LEGEND + 22, middle, stroke=colour, stroke_width=1.8, stroke_dasharray="7 4")
            elif kind == "mark":
                p.path([(LEGEND + 6, middle - 4), (LEGEND + 16, middle - 4), (LEGEND + 11, middle + 4)], fill=colour)
            else:
                p.rect(LEGEND, y - 10, 22, 12, fill=colour, fill_opacity=0.13 if kind == "band" else None)
            p.text(LEGEND + 30, y, words)
            y += 20


def short_time(seconds):
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def words_of(recorded, path):
    """Title and subtitle: who, when, for how long."""
    about = recorded.about
    pids = [(about.get("pid"), about.get("name"))] + [(pid, name) for _, pid, name in recorded.processes]
    pid, name = pids[-1]
    title = f"{name}, pid {pid}" if pid else os.path.basename(path)
    parts = []
    if clock := recorded.columns.get("clock"):
        parts.append(datetime.datetime.fromtimestamp(clock[0]).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"))
    parts += [about["container"]] if "container" in about else []
    parts.append(f"{len(recorded.times)} samples over {format_seconds(recorded.times[-1])}")
    return title, ", ".join(parts)


def to_png(picture, output):
    for name, arguments in CONVERTERS:
        if (program := shutil.which(name)) is None:
            continue
        drawn = f"{output}.svg"
        write(picture, drawn)
        try:
            command = [program, *(argument.format(png=output, svg=drawn) for argument in arguments)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        finally:
            os.unlink(drawn)
        if done.returncode:
            raise UserError(f"{output}: {name} failed: {done.stderr.strip()}")
        return
    raise UserError(f"{output}: PNG needs a converter (apt install librsvg2-bin); a name that ends in .svg needs none")


def write(picture, path):
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(picture)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def plot(path, output, title, against):
    recorded = recording.read(path)
    other = recording.read(against) if against else None
    usual, subtitle = words_of(recorded, path)
    picture = Diagram(recorded, other, title or usual).draw(title or usual, subtitle)
    if output.lower().endswith(".png"):
        to_png(picture, output)
    else:
        write(picture, output)
    peaks = [(words, max(recorded.columns.get(key, [0]))) for words, key in (("heap", "heap_alloc"), ("paced", "paced"))]
    told = ", ".join(f"{words} at most {format_size(int(peak))}" for words, peak in peaks)
    print(f"{output}: {len(recorded.times)} samples over {format_seconds(recorded.times[-1])}, {told}")
    return 0
