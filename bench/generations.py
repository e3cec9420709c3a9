#!/usr/bin/env python3
"""What CPython's young generations give, and what all of them cost: the choice of lib/runtimes/generation.h.

    bench/generations.py           the table, in Markdown
    bench/generations.py 200000 1000000

Needs no library: it calls gc.collect() as the adapter does. For programs with so many objects alive, garbage in
cycles is made that is young, or has been made old; a row gives what collecting the generations up to 1 brought
and took, and what collecting everything right after brought and took. CPU time, the median of seven runs.
"""

import gc
import statistics
import sys
import time

RUNS = 7
GARBAGE = 20_000


class Node:
    __slots__ = ("me", "text")

    def __init__(self):
        self.me = self
        self.text = bytes(700)


def collect(generation):
    """(objects, milliseconds)"""
    began = time.process_time_ns()
    found = gc.collect(generation)
    return found, (time.process_time_ns() - began) / 1e6


def measure(live_count, garbage_is_old):
    live = [{"number": number} for number in range(live_count)]
    gc.collect()
    rows = []
    for _ in range(RUNS):
        garbage = [Node() for _ in range(GARBAGE)]
        if garbage_is_old:
            gc.collect()
        del garbage
        rows.append((*collect(1), *collect(2)))
    del live
    return [statistics.median(column) for column in zip(*rows)]


def main():
    counts = [int(text) for text in sys.argv[1:]] or [100_000, 1_000_000]
    gc.disable()
    print("| alive | garbage | young first: found | ms | everything: found | ms |")
    print("|---|---|---|---|---|---|")
    for count in counts:
        for old in False, True:
            young_found, young_ms, all_found, all_ms = measure(count, old)
            print(f"| {count} | {'old' if old else 'young'} | {young_found:.0f} | {young_ms:.2f} "
                  f"| {all_found:.0f} | {all_ms:.2f} |", flush=True)


if __name__ == "__main__":
    main()
