#!/usr/bin/env python3
"""Makes the pictures of README.md, from programs as they run: bench/gallery.py [--only heap,top,python3,redis]

python3.png  an unmodified python3 that leaves its garbage in cycles, with a limit and without
redis.png    an unmodified redis-server that is filled four times, each time with larger values, and loses its oldest keys
heap.png     `memlimit heap --flame` of the service of scripts/incident, when its limit cannot be held
top.png      `memlimit top` on a terminal (tmux) of 80 x 10, with those and others running

Needs redis-server, tmux, librsvg2-bin, and for top.png python3-matplotlib.
"""

import argparse
import contextlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import benchlib

sys.dont_write_bytecode = True
GALLERY = benchlib.REPOSITORY / "bench" / "gallery"
CYCLES = benchlib.REPOSITORY / "bench" / "survival" / "cycles.py"
MIB = 1 << 20
COLUMNS, LINES = 80, 10
# What SGR numbers mean on the terminal that is drawn.
COLOURS = {"31": "#e06c75", "32": "#98c379", "33": "#e5c07b"}
INK, PAPER, DIM = "#d7dae0", "#1e2127", "#7f848e"


def load_demo():
    """scripts/demo, which knows how to talk to redis."""
    path = str(benchlib.REPOSITORY / "scripts" / "demo")
    loader = importlib.machinery.SourceFileLoader("demo", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("demo", loader))
    loader.exec_module(module)
    return module


class Gallery:
    def __init__(self, options, directory):
        self.tool = str(options.build / "scripts" / "memlimit")
        self.run = str(options.build / "scripts" / "memlimit-run")
        self.output = options.output
        self.directory = directory
        self.demo = load_demo()

    def memlimit(self, *arguments, **settings):
        command = ["/usr/bin/python3", self.tool, *map(str, arguments)]
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise benchlib.BenchError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def plot(self, name, title, *options):
        picture = self.output / f"{name}.png"
        self.memlimit("plot", self.directory / f"{name}.tsv", "-o", picture, "--title", title, *options)

    def python3(self):
        command = ("--", "/usr/bin/python3", "-I", CYCLES)
        free = self.directory / "free.tsv"
        self.memlimit("record", "-d", "0.03", "-o", free, "-l", "off", *command)
        self.memlimit("record", "-d", "0.03", "-o", self.directory / "python3.tsv", "-l", "96MiB", *command)
        self.plot("python3", "python3, garbage in cycles, memlimit-run -l 96MiB", "--against", free)

    def redis(self):
        server = self.demo.Redis(self.run, "64MiB", self.directory)
        try:
            with subprocess.Popen(
                ["/usr/bin/python3", self.tool, "record", "-p", str(server.process.pid), "-d", "0.05",
                 "-o", str(self.directory / "redis.tsv")], stderr=subprocess.DEVNULL) as recorder:
                self.act_on(server)
                recorder.wait()
        finally:
            server.stop()
        self.plot("redis", "redis-server, memlimit-run -l 64MiB, filled four times")

    @staticmethod
    def act_on(server):
        """Ever larger values, of which the oldest go whenever it is nearly full."""
        time.sleep(0.5)
        for size in (128, 512, 1536, 3072):
            server.value_bytes = size
            begin = server.stored
            while server.stat()["heap_alloc"] < 0.95 * server.stat()["limit"]:
                server.store(256)
                time.sleep(0.01)
            time.sleep(0.5)
            names = [f"key:{number}" for number in range(begin, server.stored - (server.stored - begin) // 8)]
            for at in range(0, len(names), 2000):
                server.command("DEL", *names[at : at + 2000])
            time.sleep(1.0)
        server.process.terminate()

    def heap(self):
        flame = self.directory / "heap.svg"
        done = subprocess.run([benchlib.REPOSITORY / "scripts" / "incident", "--flame", flame], stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise benchlib.BenchError("scripts/incident has kept not all of its promises")
        subprocess.run(["rsvg-convert", "--width", "900", "--background-color", "white", "-o", self.output / "heap.png", flame], check=True)

    def top(self):
        """Five programs in the states that there are, on a terminal of their own."""
        programs = [
            ("48MiB", "import time\nx = [b'x' * (1 << 20) for _ in range(12)]\ntime.sleep(600)", "small"),
            ("64MiB", "import time\nx = [b'x' * (1 << 20) for _ in range(43)]\nwhile True: y = b'y' * (8 << 20); time.sleep(0.01)", "worker"),
            ("off", "import time\nx = [b'x' * (1 << 20) for _ in range(80)]\ntime.sleep(600)", "unlimited"),
            ("32MiB", "import time\nx = [b'x' * (1 << 20) for _ in range(45)]\nwhile True: y = b'y' * (1 << 20); time.sleep(0.02)", "leaky"),
        ]
        names = ["redis-server", *(name for _, _, name in programs)]
        with contextlib.ExitStack() as stack:
            for limit, code, name in programs:
                rename = f"open('/proc/self/comm', 'w').write('{name}')\n"
                stack.enter_context(self.program(limit, ["/usr/bin/python3", "-I", "-c", rename + code]))
            server = self.demo.Redis(self.run, "64MiB", self.directory)
            stack.callback(server.stop)
            while server.stat()["heap_alloc"] < 0.9 * server.stat()["limit"]:
                server.store(256)
            draw_terminal(self.capture([self.tool, "top", "-d", "1", *names]), self.output / "top.png")

    @contextlib.contextmanager
    def program(self, limit, command):
        socket = str(self.directory / "memlimit-%p.sock")
        with subprocess.Popen([self.run, "-l", limit, "--socket", socket, "--", *command],
                              stderr=subprocess.DEVNULL) as process:
            try:
                yield process
            finally:
                process.kill()

    def capture(self, command):
        """What a terminal shows of a command after a few of its pictures, with the colours as SGR sequences."""
        server = ["tmux", "-L", f"memlimit-gallery-{os.getpid()}", "-f", "/dev/null"]
        shown = " ".join(["env", "LC_ALL=C.UTF-8", "/usr/bin/python3", *command])
        subprocess.run([*server, "-u", "new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), shown], check=True)
        try:
            time.sleep(5)
            return subprocess.run([*server, "-u", "capture-pane", "-e", "-p"], check=True, capture_output=True,
                                  encoding="utf-8").stdout
        finally:
            subprocess.run([*server, "kill-server"], check=False)


def cells_of(line):
    """Each character with the colour, weight and reverse that the SGR sequences before it ask for."""
    colour, bold, reverse = INK, False, False
    for sequence, character in re.findall(r"\x1b\[([\d;]*)m|(.)", line):
        if character:
            yield character, colour, bold, reverse
            continue
        for code in sequence.split(";"):
            if code in ("", "0"):
                colour, bold, reverse = INK, False, False
            elif code in ("7", "27"):
                reverse = code == "7"
            elif code == "39":
                colour = INK
            elif code == "1":
                bold = True
            elif code == "2":
                colour = DIM
            else:
                colour = COLOURS.get(code, colour)


def draw_terminal(text, picture):
    """A captured screen as a picture. With the system's Python, which has what it takes."""
    cells = [list(cells_of(line)) for line in text.splitlines()]
    done = subprocess.run(["/usr/bin/python3", __file__, "--draw", str(picture)], input=json.dumps(cells), text=True, check=False)
    if done.returncode:
        raise benchlib.BenchError("the terminal could not be drawn: apt install python3-matplotlib")


def draw_cells(picture):
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    def font(weight):
        return ImageFont.truetype(font_manager.findfont(font_manager.FontProperties("DejaVu Sans Mono", weight=weight)), 16)

    regular, heavy = font("regular"), font("bold")
    width, height, margin = round(regular.getlength("x")), 20, 14
    image = Image.new("RGB", (COLUMNS * width + 2 * margin, LINES * height + 2 * margin), PAPER)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(json.load(sys.stdin)):
        for column, (character, colour, bold, reverse) in enumerate(line):
            at = (margin + column * width, margin + row * height)
            if reverse:
                draw.rectangle([at[0], at[1], at[0] + width - 1, at[1] + height - 1], fill=colour)
                colour = PAPER
            eighths = "▏▎▍▌▋▊▉█".find(character) + 1
            if eighths:  # a terminal draws these to the cell's edges, a font does not
                draw.rectangle([at[0], at[1] + 2, at[0] + width * eighths // 8 - 1, at[1] + height - 3], fill=colour)
            else:
                draw.text(at, character, fill=colour, font=heavy if bold else regular)
    image.quantize(32).save(picture, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", type=pathlib.Path, default=benchlib.REPOSITORY / "build")
    parser.add_argument("--output", type=pathlib.Path, default=GALLERY, help="directory (default: bench/gallery)")
    parser.add_argument("--only", default="heap,python3,redis,top")
    parser.add_argument("--draw", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.draw:
        draw_cells(options.draw)
        return
    options.build = options.build.resolve()
    options.output.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="memlimit-gallery-") as name:
        gallery = Gallery(options, pathlib.Path(name))
        for picture in options.only.split(","):
            getattr(gallery, picture)()
            print(f"{picture}.png: {(options.output / picture).with_suffix('.png').stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    try:
        main()
    except benchlib.BenchError as error:
        sys.exit(f"gallery: {error}")
