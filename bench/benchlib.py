"""What the benchmark scripts share: allocators, a measured run, paired ratios, Markdown tables.

Standard library only. Everything is compared side by side: a repetition runs each case under every
allocator, one after the other, in an order that changes from one repetition to the next; ratios
are taken within a repetition and their median is reported with the quartiles. A machine that is
slow for a while is slow for all of them.
"""

import dataclasses
import json
import math
import os
import pathlib
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
# In the order in which tables show them.
ALLOCATORS = ("memlimit", "forward", "mimalloc", "glibc", "jemalloc", "tcmalloc")
SONAMES = {
    "mimalloc": ("libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so"),
    "jemalloc": ("libjemalloc.so.2",),
    "tcmalloc": ("libtcmalloc_minimal.so.4",),
}


@dataclasses.dataclass(frozen=True)
class Allocator:
    """One way to run a program: a library to preload ("" = none) and settings for it."""

    name: str
    preload: str = ""
    settings: tuple = ()  # of "NAME=VALUE"

    def environment(self, base=None):
        """The environment for a child that is started without `measure`."""
        env = dict(clean_environment() if base is None else base)
        if self.preload:
            env["LD_PRELOAD"] = self.preload
        env.update(setting.split("=", 1) for setting in self.settings)
        return env


@dataclasses.dataclass
class Run:
    """What one run used: seconds, MiB, and what it printed."""

    wall: float
    user: float
    system: float
    rss: float
    output: str = ""
    extra: dict = dataclasses.field(default_factory=dict)

    @property
    def cpu(self):
        return self.user + self.system


class BenchError(Exception):
    """Something that makes a comparison meaningless; its text is for the person at the terminal."""


def warn(text):
    print(text, file=sys.stderr, flush=True)


def clean_environment():
    """The environment without anything that would change one allocator and not the others."""
    unwanted = ("MEMLIMIT", "MIMALLOC_", "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "TCMALLOC_")
    return {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}


def library_path(names):
    """The full path of the first of the shared libraries that the loader's cache knows, or None."""
    cache = subprocess.run(
        ["ldconfig", "-p"], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/sbin:/usr/sbin"},
    ).stdout
    for name in names:
        for line in cache.splitlines():
            if line.split(" ", 1)[0].strip() == name:
                return line.split("=> ", 1)[1].strip()
    return None


def add_arguments(parser, runs):
    """The options that all scripts have."""
    parser.add_argument("--build", type=pathlib.Path, default=REPOSITORY / "build",
                        help="the build directory (default: build)")
    parser.add_argument("--no-build", action="store_true",
                        help="do not bring the build directory up to date first")
    parser.add_argument("--allocators", default=",".join(ALLOCATORS),
                        help="comma-separated (default: all that are installed)")
    parser.add_argument("--add", action="append", default=[], metavar="NAME=LIB[,VAR=VALUE]...",
                        help="one more row: a library to preload and settings for it")
    parser.add_argument("--base", help="what ratios are against (default: forward, else the first)")
    parser.add_argument("--runs", type=int, default=runs, help=f"repetitions (default: {runs})")
    parser.add_argument("--only", help="comma-separated cases; a name selects by its start")
    parser.add_argument("--quick", action="store_true",
                        help="3 repetitions of a tenth of the work: does it run, not how fast")
    parser.add_argument("--pin", type=int, metavar="CPU", help="run single processes on this CPU")
    parser.add_argument("--json", type=pathlib.Path, help="write every measured run there")
    parser.add_argument("--png", type=pathlib.Path, help="plot the ratios there (needs matplotlib)")
    parser.add_argument("--output", type=pathlib.Path, help="write the Markdown there as well")


def prepare(options):
    """Builds what is needed; returns the list of allocators, those that are missing left out."""
    if not options.no_build:
        subprocess.run(["ninja", "-C", str(options.build), "bench-programs"], check=True,
                       stdout=subprocess.DEVNULL)
        library = options.build / "preload" / "libmemlimit.so"
        targets = subprocess.run(["ninja", "-C", str(options.build), "-t", "targets", "all"],
                                 capture_output=True, text=True, check=True).stdout
        if "preload/libmemlimit.so:" in targets:
            subprocess.run(["ninja", "-C", str(options.build), "preload/libmemlimit.so"],
                           check=True, stdout=subprocess.DEVNULL)
    if options.quick:
        options.runs = min(options.runs, 3)
    found = []
    for name in filter(None, options.allocators.split(",")):
        if name == "glibc":
            found.append(Allocator(name))
            continue
        if name == "memlimit":
            library = options.build / "preload" / "libmemlimit.so"
        elif name == "forward":
            library = options.build / "bench" / "libmemlimit_forward.so"
        elif name in SONAMES:
            library = library_path(SONAMES[name])
        else:
            raise BenchError(f"no allocator is called {name}; use --add to name a library")
        if library is None or not pathlib.Path(library).exists():
            warn(f"{name}: not here, left out")
            continue
        found.append(Allocator(name, str(library)))
    for text in options.add:
        name, _, rest = text.partition("=")
        library, *settings = rest.split(",")
        if library and "/" not in library:
            library = library_path([library])
        if library is None or (library and not pathlib.Path(library).exists()):
            raise BenchError(f"--add {text}: there is no such library")
        found.append(Allocator(name, library, tuple(settings)))
    if not found:
        raise BenchError("no allocator to measure")
    names = [a.name for a in found]
    if options.base is None:
        options.base = "forward" if "forward" in names else names[0]
    if options.base not in names:
        raise BenchError(f"--base {options.base}: not among {', '.join(names)}")
    return found


def selected(name, only):
    """Whether --only lets this case through."""
    return not only or any(name.startswith(part) for part in only.split(","))


def parse_runs(text, output=""):
    """The Runs that `measure` wrote, a line each."""
    lines = map(json.loads, text.splitlines())
    return [Run(line["wall_ns"] / 1e9, line["user_us"] / 1e6, line["sys_us"] / 1e6,
                line["rss_kib"] / 1024, output) for line in lines]


class MemoryGroup:
    """A cgroup v1 memory group without swap, or without a limit when `limit_bytes` is 0."""

    HIERARCHY = pathlib.Path("/sys/fs/cgroup/memory")

    @classmethod
    def can_be_made(cls):
        return os.geteuid() == 0 and (cls.HIERARCHY / "memory.limit_in_bytes").exists()

    def __init__(self, limit_bytes):
        self.path = self.HIERARCHY / f"memlimit-bench-{os.getpid()}"
        self.limit_bytes = limit_bytes

    def __enter__(self):
        self.path.mkdir()
        if self.limit_bytes:
            (self.path / "memory.swappiness").write_text("0")
            (self.path / "memory.limit_in_bytes").write_text(str(self.limit_bytes))
        return self

    def __exit__(self, *_):
        for _ in range(500):
            for pid in (self.path / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.02)
        raise BenchError(f"{self.path} stays busy")

    def inside(self, command):
        """The command, started in the group by a shell."""
        return ["/bin/sh", "-c", f'echo $$ >{self.path}/cgroup.procs || exit 99; exec "$@"', "sh", *command]

    def command(self, command, environment):
        """The same with this environment, which the shell does not have."""
        return self.inside(["env", "-i", *(f"{key}={value}" for key, value in environment.items()), *command])

    def kills(self):
        for line in (self.path / "memory.oom_control").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def peak(self):
        return int((self.path / "memory.max_usage_in_bytes").read_text())


def measure(build, argv, allocator, repeat=1, cpu=None, stdin=None, cwd=None):
    """Runs argv `repeat` times under the allocator; returns a Run each (all with the whole output).

    Raises BenchError when a run fails.
    """
    command = [str(build / "bench" / "measure"), "-n", str(repeat)]
    if cpu is not None:
        command += ["-c", str(cpu)]
    if allocator.preload:
        command += ["-e", f"LD_PRELOAD={allocator.preload}"]
    for setting in allocator.settings:
        command += ["-e", setting]
    with tempfile.TemporaryFile(mode="w+") as out:
        command += ["-o", str(out.fileno()), "--"]
        done = subprocess.run(command + [str(a) for a in argv], pass_fds=[out.fileno()], cwd=cwd,
                              stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True,
                              env=clean_environment(), check=False)
        out.seek(0)
        runs = parse_runs(out.read(), done.stdout)
    if done.returncode != 0 or len(runs) != repeat:
        raise BenchError(f"{allocator.name}: {' '.join(map(str, argv))} ended with "
                         f"{done.returncode}: {done.stderr.strip()[-500:]}")
    return runs


def interleave(cases, allocators, runs, run_one):
    """Runs every case under every allocator, `runs` times; returns {case: {allocator: [Run, ...]}}.

    run_one(case, allocator) returns a Run. Runs of the same repetition have the same place in their
    lists. A case whose output differs between allocators is an error: it was not the same work.
    """
    shuffle = random.Random(1)
    results = {case: {a.name: [] for a in allocators} for case in cases}
    for repetition in range(runs):
        for case in cases:
            order = list(allocators)
            shuffle.shuffle(order)
            for allocator in order:
                results[case][allocator.name].append(run_one(case, allocator))
            outputs = {results[case][a.name][-1].output for a in allocators}
            if len(outputs) > 1:
                raise BenchError(f"{case}: outputs differ between allocators: {outputs}")
        warn(f"repetition {repetition + 1} of {runs} done")
    return results


@dataclasses.dataclass
class Ratio:
    """The median of paired ratios and its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self):
        return f"{self.median:.3f} ({self.low:.2f}-{self.high:.2f})"


def paired(results, case, name, base, metric):
    """Ratio of `name` to `base` in this case, or None when the metric is too small to have one."""
    pairs = list(zip((getattr(r, metric) for r in results[case][name]),
                     (getattr(r, metric) for r in results[case][base])))
    ratios = sorted(a / b for a, b in pairs if b > 0)
    if len(ratios) < len(pairs) or not ratios or ratios[0] <= 0:
        return None
    if len(ratios) == 1:
        return Ratio(ratios[0], ratios[0], ratios[0])
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high)


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def median(results, case, name, metric):
    return statistics.median(getattr(r, metric) for r in results[case][name])


def markdown(headers, rows):
    """A table whose columns line up in a terminal too; the first column is left-aligned."""
    cells = [[str(c) for c in row] for row in [headers, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]

    def line(row):
        first = row[0].ljust(widths[0])
        return "| " + " | ".join([first, *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]) + " |"

    rule = "|" + "|".join(
        ["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def ratio_table(results, cases, names, base, metric, unit, scale=1.0, digits=2):
    """Markdown: a row a case, the base's median in its unit, then each allocator's ratio to it."""
    others = [n for n in names if n != base]
    rows = []
    columns = {n: [] for n in others}
    for case in cases:
        row = [case, f"{median(results, case, base, metric) * scale:.{digits}f}"]
        for name in others:
            ratio = paired(results, case, name, base, metric)
            row.append("-" if ratio is None else str(ratio))
            if ratio is not None:
                columns[name].append(ratio.median)
        rows.append(row)
    if len(cases) > 1:
        rows.append(["**geometric mean**", "",
                     *(f"**{geometric_mean(columns[n]):.3f}**" for n in others)])
    return markdown(["", f"{base}, {unit}", *others], rows)


def host():
    """A line that says where this was measured, and how busy it was."""
    model = platform.machine()
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return (f"{model}, {os.cpu_count()} CPUs, Linux {platform.release().split('-')[0]}, "
            f"load at the end {os.getloadavg()[0]:.1f}")


def finish(options, text, results=None, plot=None):
    """Prints the report and writes the files that were asked for. `plot` is what plot.py reads."""
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    if options.json:
        plain = {case: {name: [dataclasses.asdict(run) for run in runs]
                        for name, runs in by_name.items()}
                 for case, by_name in (results or {}).items()}
        options.json.write_text(json.dumps(plain, indent=1), encoding="utf-8")
    if options.png and plot is not None:
        draw(plot, options.png)


def draw(plot, png):
    """Has plot.py draw it, with this Python or else the system's, whichever has matplotlib."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as data:
        json.dump(plot, data)
        data.flush()
        for python in dict.fromkeys([sys.executable, "/usr/bin/python3"]):
            if not os.path.exists(python):
                continue
            program = str(REPOSITORY / "bench" / "plot.py")
            done = subprocess.run([python, program, data.name, str(png)], check=False)
            if done.returncode == 0:
                return True
            if done.returncode != 77:
                break
        else:
            warn("matplotlib is not installed (Debian: apt install python3-matplotlib); no PNG")
    return False
