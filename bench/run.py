#!/usr/bin/env python3
"""Runs the suite of allocation-bound programs side by side and prints ratios as Markdown.

    bench/run.py                       the suite: user time, wall time, peak RSS
    bench/run.py --suite startup       what starting a process costs, and what an idle one holds
    bench/run.py --suite footprint     what is left in memory after most of it was freed
    bench/run.py --suite scaling       1 to 64 threads
    bench/run.py --quick               the same with a tenth of the work: does it run

Ratios are taken within a repetition; the table shows their median and quartiles. With --bars the
run ends with status 1 when memlimit misses one of the project's own bars.
"""

import argparse
import re
import subprocess
import sys

import benchlib
from benchlib import BenchError, Run

# name -> (program, iterations, further arguments); about a second each on a core of 2022.
SUITE = {
    "pair": ("pair", 100_000_000, ()),
    "sized_delete": ("sized_delete", 100_000_000, ()),
    "calloc_zero": ("calloc_zero", 20_000_000, ()),
    "aligned": ("aligned", 40_000_000, ()),
    "realloc_growth": ("realloc_growth", 20_000_000, ()),
    "large_blocks": ("large_blocks", 200_000, ()),
    "arith": ("arith", 2_000_000, ()),
    "trees": ("trees", 10_000, ()),
    "containers": ("containers", 1_000_000, ()),
    "batches": ("batches", 6_000, ()),
    "contended": ("contended", 40_000_000, (2,)),
    "cross_free": ("cross_free", 60_000_000, (2,)),
    "exchange": ("exchange", 30_000_000, (2,)),
    "larson": ("larson", 20_000_000, (2,)),
    "thread_churn": ("thread_churn", 10_000, (4,)),
}
SCALING_THREADS = (1, 2, 4, 8, 16, 32, 64)
# name -> (total iterations, whether they are given per thread, per pair of threads)
SCALING = {"contended": (60_000_000, 1), "cross_free": (40_000_000, 2), "larson": (30_000_000, 1)}
PATTERNS = ("free_all", "first_fifth", "scattered", "idle_threads")
# What memlimit holds itself to, user time: geometric means, then the worst single case.
BARS = {"forward": 1.01, "glibc": 0.85, "jemalloc": 1.00, "tcmalloc": 1.00}
WORST_CASE = 1.04


def run_programs(options, allocators, cases):
    """cases: {name: argv}. Returns the results of benchlib.interleave."""
    def run_one(case, allocator):
        return benchlib.measure(options.build, cases[case], allocator, cpu=options.pin)[0]

    return benchlib.interleave(list(cases), allocators, options.runs, run_one)


def program(options, name):
    return options.build / "bench" / f"bench_{name}"


def tables(options, allocators, results, metrics):
    names = [a.name for a in allocators]
    parts = []
    for title, metric, unit, scale, digits in metrics:
        parts.append(f"### {title}, {options.base} = 1.00\n\n" + benchlib.ratio_table(
            results, list(results), names, options.base, metric, unit, scale, digits))
    return parts


def against(results, names):
    """How memlimit compares with each of the others: geometric means of paired ratios."""
    rows = []
    for other in (n for n in names if n != "memlimit"):
        row = [other]
        for metric in ("user", "cpu", "wall", "rss"):
            ratios = [benchlib.paired(results, c, "memlimit", other, metric) for c in results]
            row.append(f"{benchlib.geometric_mean(r.median for r in ratios if r):.3f}")
        rows.append(row)
    return benchlib.markdown(["memlimit /", "user", "user + system", "wall", "peak RSS"], rows)


def missed_bars(results, names):
    """One sentence for each bar that memlimit misses."""
    missed = []
    if "memlimit" not in names:
        return ["memlimit was not measured"]
    for other, bar in BARS.items():
        if other not in names:
            continue
        ratios = {c: benchlib.paired(results, c, "memlimit", other, "user") for c in results}
        mean = benchlib.geometric_mean(r.median for r in ratios.values() if r)
        if mean > bar:
            missed.append(f"user time against {other}: {mean:.3f}, the bar is {bar:.2f}")
        if other == "forward":
            missed += [f"user time of {c} against forward: {r.median:.3f}, the bar is {WORST_CASE}"
                       for c, r in ratios.items() if r and r.median > WORST_CASE]
    return missed


def bars_plot(options, allocators, results, metric, title):
    names = [a.name for a in allocators if a.name != options.base]
    ratios = {}
    for name in names:
        column = [benchlib.paired(results, c, name, options.base, metric) for c in results]
        ratios[name] = [r and [r.median, r.low, r.high] for r in column]
    return {"kind": "bars", "title": title, "cases": list(results), "ratios": ratios,
            "label": f"ratio to {options.base} (less is better)"}


def suite(options, allocators):
    divisor = 10 if options.quick else 1
    cases = {case: [program(options, name), max(1, iterations // divisor), *rest]
             for case, (name, iterations, rest) in SUITE.items()
             if benchlib.selected(case, options.only)}
    results = run_programs(options, allocators, cases)
    parts = tables(options, allocators, results, (
        ("User time", "user", "s", 1, 2), ("User + system time", "cpu", "s", 1, 2),
        ("Wall time", "wall", "s", 1, 2), ("Peak RSS", "rss", "MiB", 1, 1)))
    names = [a.name for a in allocators]
    missed = []
    if "memlimit" in names and len(names) > 1:
        parts.append("### Geometric means\n\n" + against(results, names))
        missed = missed_bars(results, names)
        parts.append("\n".join(f"- missed: {m}" for m in missed) or "No bar missed.")
    plot = bars_plot(options, allocators, results, "user", "User time, allocation-bound programs")
    return parts, results, plot, missed


def scaling(options, allocators):
    cases = {}
    for name, (total, threads_per_unit) in SCALING.items():
        total = total // 10 if options.quick else total
        for threads in SCALING_THREADS:
            if threads < threads_per_unit or not benchlib.selected(name, options.only):
                continue
            units = threads // threads_per_unit
            cases[f"{name} {threads}"] = [program(options, name), total // units, threads]
    results = run_programs(options, allocators, cases)
    parts = tables(options, allocators, results, (
        ("Wall time of the same work on more threads", "wall", "s", 1, 2),
        ("User + system time", "cpu", "s", 1, 2), ("Peak RSS", "rss", "MiB", 1, 1)))
    return parts, results, bars_plot(options, allocators, results, "wall", "Scaling, wall time"), []


def idle_process(options, allocator):
    """Resident and anonymous MiB of a process that does nothing, from its smaps_rollup."""
    child = subprocess.Popen([program(options, "nothing"), "stay"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=allocator.environment())
    try:
        if child.stdout.readline() != b"idle\n":
            raise BenchError(f"{allocator.name}: an idle process did not start")
        with open(f"/proc/{child.pid}/smaps_rollup", encoding="ascii") as file:
            sizes = dict(re.findall(r"^(\w+): +(\d+) kB", file.read(), re.M))
        return Run(0, 0, 0, int(sizes["Rss"]) / 1024,
                   extra={"anonymous": int(sizes["Anonymous"]), "resident": int(sizes["Rss"]),
                          "proportional": int(sizes["Pss"])})
    finally:
        child.kill()
        child.communicate()


def startup(options, allocators):
    """Start and end of a process: each sample is the median of many runs in a row."""
    loop = "i=0; while [ $i -lt {} ]; do /bin/true; i=$((i+1)); done"
    turns = 100 if options.quick else 1000
    cases = {"true": (["/bin/true"], turns // 5),
             "C++ program": ([program(options, "nothing")], turns // 5),
             f"sh, {turns} x true": (["/bin/sh", "-c", loop.format(turns)], 1)}
    cases = {c: v for c, v in cases.items() if benchlib.selected(c, options.only)}

    def run_one(case, allocator):
        argv, repeat = cases[case]
        runs = benchlib.measure(options.build, argv, allocator, repeat, cpu=options.pin)
        middle = sorted(runs, key=lambda r: r.wall)[len(runs) // 2]
        cpu = sorted(r.cpu for r in runs)[len(runs) // 2]
        return Run(middle.wall, cpu, 0, middle.rss)  # user and system are not separable this short

    results = benchlib.interleave(list(cases), allocators, options.runs, run_one)
    rows = []
    names = [a.name for a in allocators]
    for case in cases:
        per = turns if case.startswith("sh") else 1
        for metric, label in (("wall", "wall"), ("cpu", "CPU")):
            row = [f"{case}: {label}, ms a process"]
            row += [f"{benchlib.median(results, case, n, metric) * 1e3 / per:.3f}" for n in names]
            rows.append(row)
    idle = {a.name: idle_process(options, a).extra for a in allocators}
    for key in ("resident", "anonymous", "proportional"):
        rows.append([f"idle process: {key}, KiB", *(idle[n][key] for n in names)])
    parts = ["### Starting a process\n\n" + benchlib.markdown(["", *names], rows)]
    return parts, results, bars_plot(options, allocators, results, "wall", "Start-up"), []


def footprint(options, allocators):
    """Peak, after the frees, after the allocator's own purge: resident MiB."""
    limited = [a for a in allocators if a.name == "memlimit"]
    if limited:
        allocators = [*allocators, benchlib.Allocator(
            "memlimit 256MiB", limited[0].preload, ("MEMLIMIT=256MiB", "MEMLIMIT_LOG=off"))]
    count = 40_000 if options.quick else 400_000
    cases = [p for p in PATTERNS if benchlib.selected(p, options.only)]

    def run_one(case, allocator):
        run = benchlib.measure(options.build, [program(options, "fragmentation"), case, count],
                               allocator)[0]
        first, run.output = run.output.split("\n", 1)
        run.extra = dict(re.findall(r"(\w+)_kib=(\d+)", first))
        return run

    results = benchlib.interleave(cases, allocators, options.runs, run_one)
    names = [a.name for a in allocators]
    rows = []
    for case in cases:
        row = [case]
        for name in names:
            runs = sorted(results[case][name], key=lambda r: int(r.extra["purged"]))
            extra = runs[len(runs) // 2].extra
            row.append("/".join(f"{int(extra[k]) / 1024:.0f}" for k in ("peak", "freed", "purged")))
        rows.append([*row, f"{int(extra['live']) / 1024:.0f}"])
    text = ("### Resident MiB: peak / after the frees / after the allocator's own purge\n\n"
            + benchlib.markdown(["", *names, "live"], rows))
    return [text], results, None, []


SUITES = {"suite": suite, "startup": startup, "footprint": footprint, "scaling": scaling}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    benchlib.add_arguments(parser, runs=9)
    parser.add_argument("--suite", choices=SUITES, default="suite")
    parser.add_argument("--bars", action="store_true", help="status 1 when a bar is missed")
    options = parser.parse_args()
    try:
        allocators = benchlib.prepare(options)
        parts, results, plot, missed = SUITES[options.suite](options, allocators)
    except BenchError as error:
        sys.exit(f"run.py: {error}")
    head = f"## {options.suite}: {options.runs} repetitions\n\n{benchlib.host()}"
    benchlib.finish(options, "\n\n".join([head, *parts]), results, plot)
    if options.bars and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
