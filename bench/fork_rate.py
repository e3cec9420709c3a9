#!/usr/bin/env python3
"""How often a process forks under memlimit, with and without a limit, under the same mimalloc alone and under glibc.

    bench/fork_rate.py              all cases, 15 repetitions (about a minute)
    bench/fork_rate.py --quick      does it run, not how fast

exit       the child ends at once
work       the child allocates and frees 50 blocks, and ends by exit()
threaded   as exit, in a process that has had a thread, after which libc's own fork() touches more pages

The parent has 8 MiB in use, so that a limit of 64 MiB has the service thread up. Rates and CPU time of parent and child
together are ratios to `forward`, paired (benchlib.py); page faults are counts for one fork.
"""

import argparse
import dataclasses
import statistics
import subprocess

import benchlib

CASES = ("exit", "work", "threaded")
LIMIT = ("MEMLIMIT=64MiB",)


@dataclasses.dataclass
class Forks:
    forks_per_s: float
    cpu_us: float
    child_faults: float
    parent_faults: float
    output: str = ""  # the same for all


def run_one(options, case, allocator):
    command = [str(options.build / "bench" / "bench_fork_rate"), case, str(options.forks)]
    done = subprocess.run(command, env=allocator.environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stderr:
        raise benchlib.BenchError(f"{allocator.name}: {' '.join(command)}: {done.returncode} {done.stderr}")
    return Forks(**{key: float(value) for key, value in (word.split("=") for word in done.stdout.split())})


def table(results, names, base):
    headers = ["", "forks/s", f"to {base}", "CPU us/fork", f"to {base}", "faults, child", "faults, parent"]
    rows = []
    for case in results:
        for name in names:
            def middle(metric, case=case, name=name):
                return statistics.median(getattr(run, metric) for run in results[case][name])

            rows.append([f"{case}, {name}",
                         f"{middle('forks_per_s'):.0f}", benchlib.paired(results, case, name, base, "forks_per_s"),
                         f"{middle('cpu_us'):.0f}", benchlib.paired(results, case, name, base, "cpu_us"),
                         f"{middle('child_faults'):.1f}", f"{middle('parent_faults'):.1f}"])
    return benchlib.markdown(headers, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    benchlib.add_arguments(parser, runs=15)
    parser.add_argument("--forks", type=int, default=400, help="in a run (default: 400)")
    parser.set_defaults(allocators="memlimit,forward,glibc")
    options = parser.parse_args()
    allocators = benchlib.prepare(options)
    for allocator in list(allocators):
        if allocator.name == "memlimit":
            allocators.insert(0, benchlib.Allocator("memlimit, 64 MiB", allocator.preload, LIMIT))
    if options.quick:
        options.forks = min(options.forks, 40)
    cases = [case for case in CASES if benchlib.selected(case, options.only)]
    results = benchlib.interleave(cases, allocators, options.runs, lambda case, a: run_one(options, case, a))
    text = table(results, [a.name for a in allocators], options.base)
    benchlib.finish(options, f"{text}\n\n{benchlib.host()}", results)


if __name__ == "__main__":
    main()
