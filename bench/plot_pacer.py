#!/usr/bin/env python3
"""Draws what bench/pacer_sim did: usage against the limit with rounds as marks, and the cadence.

    bench/plot_pacer.py PACER_SIM OUT_DIR [SCENARIO...]

Runs the simulation (the path of the built pacer_sim), writes its CSV files and these pictures to
OUT_DIR: one for each scenario, overview.png with all of them, and cadence.png with the gap between
rounds as usage grows. Needs python3-matplotlib.
"""

import csv
import math
import pathlib
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

MIB = 1 << 20


def read(path):
    """A CSV file of pacer_sim: its first line is a sentence, then a head, then numbers."""
    with open(path, newline="") as file:
        says = file.readline().lstrip("# ").strip()
        rows = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return says, rows


def draw(axes, out, name, small):
    """One scenario into one pair of axes."""
    says, samples = read(out / f"{name}.csv")
    _, rounds = read(out / f"{name}-rounds.csv")
    seconds = [s["ns"] / 1e9 for s in samples]
    usage = [s["usage"] / MIB for s in samples]
    limit = [s["limit"] / MIB if s["limit"] else math.nan for s in samples]
    top = max((x for x in limit if x == x), default=256) * 1.25
    axes.plot(seconds, limit, color="tab:red", linewidth=1, label="limit")
    axes.fill_between(seconds, [x * 0.9 for x in limit], limit, color="tab:green", alpha=0.15,
                      linewidth=0, label="90-100 %")
    axes.plot(seconds, usage, color="tab:blue", linewidth=0.8, label="usage")
    paced = [s["paced"] / MIB for s in samples]
    if max(abs(p - u) for p, u in zip(paced, usage)) > 8:
        axes.plot(seconds, paced, color="tab:gray", linewidth=0.6, label="paced (footprint)")
    on = [s["limiter"] for s in samples]
    if any(on):
        axes.fill_between(seconds, 0, top, where=[x > 0 for x in on], color="tab:purple",
                          alpha=0.15, linewidth=0, label="limiter on")
    rounds = rounds[:-1]  # the last one may not have ended
    at = [r["ns"] / 1e9 for r in rounds]
    fruitless = [r["ns"] / 1e9 for r in rounds if r["freed"] * 8 < r["wanted"] or not r["freed"]]
    height = top * 0.04
    axes.vlines(at, 0, height, color="black", linewidth=0.3, label=f"{len(at)} rounds")
    if fruitless:
        axes.vlines(fruitless, 0, height, color="tab:orange", linewidth=0.5,
                    label=f"{len(fruitless)} fruitless")
    axes.set_ylim(0, top)
    axes.set_xlim(0, seconds[-1])
    axes.set_title(name if small else f"{name}: {says}", fontsize=8 if small else 10)
    if small:
        axes.tick_params(labelsize=6)
    else:
        axes.set_xlabel("seconds (simulated)")
        axes.set_ylabel("MiB")
        axes.legend(loc="lower right", fontsize=8)


def draw_cadence(program, out):
    """The gap between rounds over usage: what a user sees who prints each hook call."""
    text = subprocess.run([program, "--cadence"], check=True, capture_output=True, text=True).stdout
    (out / "cadence.csv").write_text(text)
    rows = list(csv.DictReader(text.splitlines()))
    usage = [float(r["usage_percent"]) for r in rows]
    gap = [int(r["gap_bytes"]) / MIB for r in rows]
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(usage, gap, ".-", color="tab:blue", linewidth=0.8)
    axes.set_xlim(50, 100)
    axes.set_yscale("log")
    axes.set_xlabel("usage, % of the limit (256 MiB)")
    axes.set_ylabel("MiB allocated since the round before")
    axes.set_title("The closer to the limit, the more often hooks are called")
    axes.grid(True, which="both", linewidth=0.3)
    figure.tight_layout()
    figure.savefig(out / "cadence.png", dpi=120)
    plt.close(figure)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    table = subprocess.run([program, "--out", out], check=True, capture_output=True, text=True).stdout
    print(table, end="")
    names = sys.argv[3:] or [line.split()[0] for line in table.splitlines()[1:]]
    for name in names:
        figure, axes = plt.subplots(figsize=(9, 4))
        draw(axes, out, name, small=False)
        figure.tight_layout()
        figure.savefig(out / f"{name}.png", dpi=120)
        plt.close(figure)
    columns = 4
    lines = math.ceil(len(names) / columns)
    figure, grid = plt.subplots(lines, columns, figsize=(4 * columns, 2.2 * lines), squeeze=False)
    for axes in grid.flat[len(names):]:
        axes.axis("off")
    for axes, name in zip(grid.flat, names):
        draw(axes, out, name, small=True)
    figure.tight_layout()
    figure.savefig(out / "overview.png", dpi=110)
    draw_cadence(program, out)


if __name__ == "__main__":
    main()
