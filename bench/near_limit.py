#!/usr/bin/env python3
"""Programs that live near a limit, side by side: a cache, Go's own limit, a leak, a huge request.

    bench/near_limit.py                   all of it, 30 s a run of the cache (about 20 minutes)
    bench/near_limit.py --quick           3 s a run, once
    bench/near_limit.py --only cache      one part: cache, assist, group, oversized, go, leak,
                                          gap
    bench/near_limit.py --png near.png    usage and RSS over time against the limit, rounds as
                                          marks; the gap between rounds goes to near-gap.png

Each table has the bar that memlimit holds itself to; with --bars the run ends with status 1 when
one is missed. Repetitions are interleaved: all rows of a table once, then all rows again.
"""

import argparse
import contextlib
import csv
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import benchlib
from benchlib import Allocator, BenchError

MIB = 1 << 20
LIMIT = 256 * MIB
# A hand-set number of entries is "perfect" when it fills the limit without passing it.
HOLD = int(LIMIT * 0.97)
THREADS = (1, 2, 4)
GO_LIMITS_MIB = (300, 250, 200)


class Report:
    """What is printed, what is plotted, and which bars were missed."""

    def __init__(self):
        self.parts = []
        self.missed = []
        self.panels = []
        self.gap_panels = []
        self.results = {}

    def add(self, title, headers, rows, note):
        self.parts.append(f"### {title}\n\n{benchlib.markdown(headers, rows)}\n\n{note}")

    def bar(self, held, sentence):
        if not held:
            self.missed.append(sentence)


class Bench:
    """Runs the programs and turns their name=value lines into numbers."""

    def __init__(self, options, library, folder):
        self.options = options
        self.library = str(library)
        self.folder = folder

    def program(self, name):
        return self.options.build / "bench" / f"bench_{name}"

    def memlimit(self, name, *settings):
        return Allocator(name, self.library, settings)

    def run(self, argv, allocator):
        run = benchlib.measure(self.options.build, argv, allocator)[0]
        for line in run.output.splitlines():
            name, _, value = line.partition("=")
            run.extra[name] = float(value)
        run.output = ""
        return run

    def table(self, cases, runs):
        """cases: {name: (argv, allocator)}; returns {name: [Run, ...]}, interleaved."""
        results = {case: [] for case in cases}
        for repetition in range(runs):
            for case, (argv, allocator) in cases.items():
                results[case].append(self.run(argv, allocator))
            benchlib.warn(f"repetition {repetition + 1} of {runs} done")
        return results


def middle(runs, key):
    return statistics.median(r.extra[key] for r in runs)


def worst(runs, key):
    return max(r.extra[key] for r in runs)


def engine_share(runs):
    """CPU of the engine without the hooks' own work, in percent of the process's.

    The larger of what the library says and what the service thread's clock says.
    """
    shares = []
    for run in runs:
        spent = max(run.extra["reclaim_cpu_ns"], run.extra["service_cpu_ns"])
        shares.append(100 * max(0, spent - run.extra["hook_cpu_ns"]) / run.extra["process_cpu_ns"])
    return statistics.median(shares)


def read_series(path):
    with open(path, newline="", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows] for key in rows[0]} if rows else {}


def time_panel(title, path, limit_mib):
    """Usage and RSS over time; a mark for each sample in which a round ran."""
    series = read_series(path)
    at = [ms / 1000 for ms in series["ms"]]
    marks = [t for t, before, now in zip(at[1:], series["rounds"], series["rounds"][1:])
             if now > before]
    return {
        "title": title, "x": "seconds", "y": "MiB", "ymin": 0, "marks": marks,
        "levels": [{"y": limit_mib, "label": f"limit {limit_mib:.0f} MiB"}],
        "lines": [{"x": at, "y": [v / MIB for v in series["usage"]], "label": "usage"},
                  {"x": at, "y": [v / MIB for v in series["rss"]], "label": "RSS", "width": 0.8}],
    }


def cache(bench, report, seconds, runs):
    limit = f"MEMLIMIT={LIMIT}"
    cases = {}
    for threads in THREADS:
        argv = [bench.program("near_limit"), "--threads", threads, "--seconds", seconds]
        record = ["--csv", bench.folder / f"cache{threads}.csv"]
        cases[f"{threads}, memlimit"] = (argv + record, bench.memlimit("memlimit", limit))
        cases[f"{threads}, no assist"] = (argv, bench.memlimit("off", limit, "MEMLIMIT_ASSIST=0"))
        cases[f"{threads}, by hand"] = (argv + ["--hold", HOLD], bench.memlimit("hand"))
        cases[f"{threads}, evictor"] = (argv + ["--hold", HOLD, "--evictor"], bench.memlimit("evictor"))
    results = bench.table(cases, runs)
    report.results.update({f"cache {case}": {"memlimit": r} for case, r in results.items()})

    rows = []
    latency = []
    for case, done in results.items():
        threads, kind = case.split(", ")
        peak = max(worst(done, "heap_peak"), worst(done, "sampled_peak")) / LIMIT
        rss = worst(done, "peak_rss") / LIMIT
        pairs = zip(done, results[f"{threads}, by hand"])
        speed = statistics.median(
            a.extra["inserts_per_s"] / b.extra["inserts_per_s"] for a, b in pairs)
        latency.append([case] + [f"{middle(done, k) / 1000:.2f}" for k in (
            "malloc_p50_ns", "malloc_p99_ns", "malloc_p999_ns", "malloc_p9999_ns", "malloc_max_ns")]
            + [f"{middle(done, 'assists'):.0f}", f"{middle(done, 'assist_ns') / 1e6:.1f}"])
        if kind in ("by hand", "evictor"):
            rows.append([case, "-", "-", f"{peak:.3f}", f"{rss:.3f}", "-", "-",
                         f"{middle(done, 'inserts_per_s') / 1e3:.0f}k", f"{speed:.3f}"])
            continue
        band = min(r.extra["band_share"] for r in done)
        rows.append([case, f"{100 * band:.2f} %", f"{100 * worst(done, 'over_share'):.2f} %",
                     f"{peak:.3f}", f"{rss:.3f}", f"{engine_share(done):.2f} %",
                     f"{middle(done, 'rounds') / seconds:.0f}",
                     f"{middle(done, 'inserts_per_s') / 1e3:.0f}k", f"{speed:.3f}"])
        if kind == "memlimit":
            report.bar(band >= 0.99, f"cache, {case}: {band:.4f} of the time in 90-100 %, bar 0.99")
            report.bar(peak <= 1.02, f"cache, {case}: peak usage {peak:.3f} of the limit, bar 1.02")
            report.bar(rss <= 1.05, f"cache, {case}: peak RSS {rss:.3f} of the limit, bar 1.05")
            share = engine_share(done)
            report.bar(share <= 1, f"cache, {case}: the engine takes {share:.2f} % of CPU, bar 1 %")
            report.bar(speed >= 0.9, f"cache, {case}: {speed:.3f} of the throughput, bar 0.90")
            report.panels.append(time_panel(f"cache, threads: {threads}",
                                            bench.folder / f"cache{threads}.csv", LIMIT / MIB))
    report.add(f"An LRU cache at {LIMIT // MIB} MiB, {seconds:g} s a run, {runs} runs",
               ["threads", "time in 90-100 %", "over 100 %", "peak usage", "peak RSS", "engine CPU",
                "rounds/s", "inserts/s", "vs by hand"], rows,
               "Peaks (of the limit) and shares are the worst run's; throughput and engine are "
               "medians. By hand: no limit, and the number of entries that fills 97 % of it. Evictor: the "
               "same, but a thread of its own evicts 3 MiB at a time, as an async hook does.\n"
               "Bars: 99 %, -, 1.02, 1.05, 1 %, -, -, 0.90.")
    report.add("malloc as the filling threads see it, microseconds",
               ["threads", "p50", "p99", "p99.9", "p99.99", "max", "assists", "waited, ms"],
               latency, "Medians over the runs.")


@contextlib.contextmanager
def crowded_machine():
    """Half as many processes again as there are processors that do nothing but compute."""
    others = [subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"])
              for _ in range((os.cpu_count() or 1) * 3 // 2)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def assist(bench, report, seconds, runs):
    argv = [bench.program("near_limit"), "--threads", 4, "--seconds", seconds]
    cases = {f"MEMLIMIT_ASSIST={value}": (argv, bench.memlimit(
        "memlimit", f"MEMLIMIT={LIMIT}", f"MEMLIMIT_ASSIST={value}")) for value in ("2ms", "off")}
    with crowded_machine():
        results = bench.table(cases, 2 * runs)
    report.results.update({f"assist {case}": {"memlimit": r} for case, r in results.items()})
    rows = []
    for case, done in results.items():
        rows.append([case, f"{100 * middle(done, 'band_share'):.1f} %",
                     f"{100 * middle(done, 'over_share'):.1f} %",
                     f"{middle(done, 'heap_peak') / LIMIT:.3f}", f"{worst(done, 'heap_peak') / LIMIT:.3f}",
                     f"{middle(done, 'inserts_per_s') / 1e3:.0f}k"]
                    + [f"{middle(done, k) / 1000:.1f}" for k in (
                        "malloc_p50_ns", "malloc_p99_ns", "malloc_p999_ns", "malloc_p9999_ns")]
                    + [f"{middle(done, 'assists'):.0f}", f"{middle(done, 'assist_ns') / 1e6:.0f}"])
    report.add("Waiting for a round, or not: the cache, 4 threads, where others want the processors, too",
               ["", "time in 90-100 %", "over 100 %", "peak usage", "worst peak", "inserts/s",
                "malloc p50, us", "p99", "p99.9", "p99.99", "assists", "waited, ms"], rows,
               f"Medians of {2 * runs} runs.")
    on, off = results.values()
    report.bar(middle(on, "over_share") <= middle(off, "over_share"),
               "assist: more time over the limit with it than without")


def group(bench, report, seconds, runs):
    """Bytes as a limit, held by counting, and a percentage of a memory group, held by its working set."""
    if not benchlib.MemoryGroup.can_be_made():
        report.parts.append("### In a memory group\n\nNot measured: needs root and a cgroup v1 memory hierarchy.")
        return
    with benchlib.MemoryGroup(LIMIT * 5 // 4) as container:
        argv = container.inside([bench.program("near_limit"), "--threads", 2, "--seconds", seconds])
        cases = {"counted, 256MiB": (argv, bench.memlimit("memlimit", f"MEMLIMIT={LIMIT}")),
                 "working set, 80%": (argv, bench.memlimit("memlimit", "MEMLIMIT=80%"))}
        results = bench.table(cases, 2 * runs)
    report.results.update({f"group {case}": {"memlimit": r} for case, r in results.items()})
    counted = results["counted, 256MiB"]
    rows = []
    for case, done in results.items():
        speed = statistics.median(
            a.extra["inserts_per_s"] / b.extra["inserts_per_s"] for a, b in zip(done, counted))
        rows.append([case, f"{worst(done, 'heap_peak') / LIMIT:.3f}", f"{worst(done, 'peak_rss') / LIMIT:.3f}",
                     f"{engine_share(done):.2f} %", f"{middle(done, 'rounds') / seconds:.0f}", f"{speed:.3f}"])
    report.add("The cache, 2 threads, in a memory group of 320 MiB",
               ["", "peak usage", "peak RSS", "engine CPU", "rounds/s", "inserts/s"], rows,
               f"Peaks (of the limit) are the worst run's, the rest medians of {2 * runs} runs.")


def oversized(bench, report, seconds, runs):
    argv = [bench.program("near_limit"), "--threads", 2, "--seconds", seconds, "--oversized",
            "--csv", bench.folder / "oversized.csv"]
    cases = {"2 threads": (argv, bench.memlimit("memlimit", f"MEMLIMIT={LIMIT}"))}
    done = bench.table(cases, runs)["2 threads"]
    report.results["oversized"] = {"memlimit": done}
    back_ns = worst(done, "oversized_back_ns")
    report.add("Requests of twice the limit, in the middle of it",
               ["threads", "slowest grant, ms", "back below the limit after the free, ms"],
               [["2", f"{worst(done, 'oversized_grant_ns') / 1e6:.3f}", f"{back_ns / 1e6:.3f}"]],
               "Worst of all requests. Bar: back within 1,000 ms.")
    report.bar(back_ns <= 1e9, f"oversized: back below after {back_ns / 1e9:.2f} s, bar 1 s")
    report.panels.append(time_panel("cache, requests of twice the limit",
                                    bench.folder / "oversized.csv", LIMIT / MIB))


def go(bench, report, _seconds, runs):
    compiler = shutil.which("go")
    if compiler is None:
        report.parts.append("### Go's own limit\n\nNot measured: there is no Go compiler here.")
        return
    binary = bench.options.build / "bench" / "go_ring"
    source = benchlib.REPOSITORY / "bench" / "go_ring" / "main.go"
    build = subprocess.run([compiler, "build", "-o", binary.absolute(), source], check=False,
                           capture_output=True, text=True, cwd=bench.folder,
                           env={**benchlib.clean_environment(), "GO111MODULE": "off",
                                "GOCACHE": str(bench.folder / "gocache")})
    if build.returncode != 0:
        raise BenchError(f"go build: {build.stderr}")
    cases = {}
    for mib in GO_LIMITS_MIB:
        cases[f"{mib} MiB, Go"] = ([binary], Allocator(
            "go", "", ("GOGC=off", f"GOMEMLIMIT={mib}MiB")))
        cases[f"{mib} MiB, memlimit"] = (
            [bench.program("ring"), "--csv", bench.folder / f"ring{mib}.csv"],
            bench.memlimit("memlimit", f"MEMLIMIT={mib}MiB"))
    cases["off, Go, GOGC=100"] = ([binary], Allocator("go"))
    cases["off, freed at once"] = ([bench.program("ring"), "--direct"], bench.memlimit("memlimit"))
    results = bench.table(cases, runs)
    report.results.update({f"ring {case}": {"memlimit": r} for case, r in results.items()})
    rows = []
    for case, done in results.items():
        peak_mib = max(r.rss for r in done)
        limit = case.split(" ")[0].rstrip(",")
        of_limit = "-" if limit == "off" else f"{peak_mib / float(limit):.3f}"
        if "Go" in case:
            rounds = middle(done, "collections")
            share = f"{100 * middle(done, 'collector_cpu_share'):.1f} %"
        else:
            rounds = middle(done, "rounds")
            share = f"{engine_share(done):.2f} %"
        rows.append([case, f"{peak_mib:.0f}", of_limit, f"{rounds:.0f}", share,
                     f"{middle(done, 'seconds'):.2f}",
                     f"{statistics.median(r.cpu for r in done):.2f}"])
    report.add("A ring of 100,000 live blocks, 4 million allocations",
               ["limit", "peak RSS, MiB", "of the limit", "rounds", "collector or engine",
                "wall, s", "CPU, s"], rows,
               "Peaks are the worst run's. \"Collector or engine\": Go's own figure, memlimit's "
               "engine without the hook. Bar: peak RSS of the limit at most Go's.")
    for mib in GO_LIMITS_MIB:
        ours, theirs = (max(r.rss for r in results[f"{mib} MiB, {who}"]) / mib
                        for who in ("memlimit", "Go"))
        report.bar(ours <= theirs,
                   f"ring, {mib} MiB: peak RSS {ours:.3f} of the limit, Go {theirs:.3f}")
    last = GO_LIMITS_MIB[-1]
    report.panels.append(time_panel(f"ring at {last} MiB", bench.folder / f"ring{last}.csv", last))


def leak(bench, report, _seconds, runs):
    iterations = 100_000 if bench.options.quick else 1_000_000
    argv = [bench.program("leak"), iterations]
    quiet = "MEMLIMIT_LOG=off"
    limit = f"MEMLIMIT={iterations * 256 // 4}"
    cases = {"no limit": (argv, bench.memlimit("memlimit")),
             "limit, a quarter of the leak": (argv, bench.memlimit("memlimit", limit, quiet)),
             "the same, hook 10 ms": (argv + [10_000], bench.memlimit("memlimit", limit, quiet)),
             "the same, no assist": (argv, bench.memlimit("memlimit", limit, quiet,
                                                          "MEMLIMIT_ASSIST=0"))}
    results = bench.table(cases, runs)
    report.results.update({f"leak {case}": {"memlimit": r} for case, r in results.items()})
    rows = []
    for case, done in results.items():
        speed = statistics.median(a.extra["iterations_per_s"] / b.extra["iterations_per_s"]
                                  for a, b in zip(done, results["no limit"]))
        reclaim = statistics.median(
            100 * r.extra["reclaim_cpu_ns"] / r.extra["process_cpu_ns"] for r in done)
        rows.append([case, f"{middle(done, 'iterations_per_s') / 1e3:.0f}k", f"{speed:.3f}",
                     f"{middle(done, 'hook_calls'):.0f}", f"{reclaim:.1f} %",
                     f"{middle(done, 'assist_ns') / 1e6:.0f}",
                     f"{middle(done, 'limiter_episodes'):.0f}",
                     f"{middle(done, 'limiter_needed') / MIB:.0f}"])
        if case != "no limit":
            report.bar(speed >= 0.5, f"leak, {case}: {speed:.3f} of the throughput, bar 0.50")
            # A quick run ends before the limiter's bucket (a CPU-second a core) is full.
            told = bench.options.quick or min(r.extra["limiter_episodes"] for r in done) >= 1
            report.bar(told, f"leak, {case}: the limiter never said that the limit cannot be held")
    report.add("A leak and a hook that frees nothing",
               ["", "iterations/s", "vs no limit", "hook calls", "reclaim CPU", "waited, ms",
                "limiter episodes", "needed, MiB"], rows, "Medians. Bar: 0.50 of the throughput.")


def gap(bench, report, _seconds, _runs):
    run = benchlib.measure(bench.options.build, [bench.program("gap")],
                           bench.memlimit("memlimit", "MEMLIMIT=64MiB"))[0]
    calls = [(float(r["usage_pct"]), float(r["gap_bytes"]), float(r["gap_ms"]))
             for r in csv.DictReader(run.output.splitlines())]
    rows = []
    medians = []
    for low in range(50, 100, 5):
        inside = [c for c in calls if low <= c[0] < low + 5]
        if not inside:
            rows.append([f"{low}-{low + 5} %", 0, "-", "-"])
            continue
        medians.append(statistics.median(c[1] for c in inside))
        rows.append([f"{low}-{low + 5} %", len(inside), f"{medians[-1] / 1024:.0f}",
                     f"{statistics.median(c[2] for c in inside):.2f}"])
    report.add("The gap between rounds as usage grows to 64 MiB",
               ["usage", "calls", "gap, KiB allocated", "gap, ms"], rows,
               "Medians. Bar: it shrinks all the way.")
    shrinks = len(medians) >= 2 and all(a >= b for a, b in zip(medians, medians[1:]))
    report.bar(shrinks, "gap: it does not shrink all the way")
    report.gap_panels.append({
        "title": "Bytes allocated between two rounds, against usage", "log": True,
        "x": "usage, % of the limit", "y": "KiB",
        "lines": [{"x": [c[0] for c in calls], "y": [max(c[1], 1) / 1024 for c in calls],
                   "label": "a round", "points": "."}]})


PARTS = {"cache": cache, "assist": assist, "group": group, "oversized": oversized, "go": go, "leak": leak, "gap": gap}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    benchlib.add_arguments(parser, runs=3)
    parser.add_argument("--seconds", type=float, help="of a run of the cache (default: 30)")
    parser.add_argument("--bars", action="store_true", help="status 1 when a bar is missed")
    options = parser.parse_args()
    seconds = options.seconds or (3 if options.quick else 30)
    runs = 1 if options.quick else options.runs
    report = Report()
    try:
        options.allocators = "memlimit,glibc"
        library = next((a.preload for a in benchlib.prepare(options) if a.name == "memlimit"), None)
        if library is None:
            raise BenchError("build libmemlimit.so first")
        with tempfile.TemporaryDirectory(prefix="near_limit.") as folder:
            bench = Bench(options, library, pathlib.Path(folder))
            for name, part in PARTS.items():
                if benchlib.selected(name, options.only):
                    benchlib.warn(f"{name} ...")
                    part(bench, report, seconds, runs)
    except (BenchError, OSError) as error:
        sys.exit(f"near_limit.py: {error}")
    verdict = "\n".join(f"- missed: {m}" for m in report.missed) or "No bar missed."
    text = "\n\n".join([f"## near-limit\n\n{benchlib.host()}", *report.parts, verdict])
    plot = {"kind": "series", "columns": 2, "panels": report.panels} if report.panels else None
    benchlib.finish(options, text, report.results, plot)
    if options.png and report.gap_panels:
        benchlib.draw({"kind": "series", "panels": report.gap_panels},
                      options.png.with_stem(options.png.stem + "-gap"))
    if options.bars and report.missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
