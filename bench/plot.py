#!/usr/bin/env python3
"""Draws what the benchmark scripts measured: plot.py data.json picture.png

The only file that needs matplotlib; ends with status 77 when it is not installed. The JSON says
what it is ("bars" or "series"), so that the scripts need no drawing code of their own.
"""

import json
import sys

try:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit(77)


def draw_bars(data):
    """Ratios to the base: a group of bars a case, error bars from the quartiles."""
    cases, names = data["cases"], list(data["ratios"])
    height = max(3.0, 0.17 * len(cases) * (len(names) + 1.5))
    figure, axes = plt.subplots(figsize=(9, height))
    step = 1.0 / (len(names) + 1)
    for i, name in enumerate(names):
        at, mid, below, above = [], [], [], []
        for c, ratio in enumerate(data["ratios"][name]):
            if ratio is None:
                continue
            at.append(c + (i - (len(names) - 1) / 2) * step)
            mid.append(ratio[0])
            below.append(ratio[0] - ratio[1])
            above.append(ratio[2] - ratio[0])
        axes.barh(at, mid, step * 0.95, xerr=[below, above], label=name, error_kw={"lw": 0.8})
    axes.axvline(1.0, color="black", lw=1)
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set_xlim(0, data.get("xmax", 3))
    axes.set_xlabel(data["label"])
    axes.legend(loc="lower right", fontsize="small")
    axes.grid(axis="x", alpha=0.3)
    return figure


def draw_series(data):
    """Panels of lines over a shared x axis, with level lines and marks."""
    panels = data["panels"]
    columns = data.get("columns", 1)
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(7.5 * columns, 3.2 * rows), squeeze=False)
    for axes, panel in zip(grid.flat, panels):
        for line in panel["lines"]:
            style = {"lw": line.get("width", 1.0), "alpha": line.get("alpha", 1.0)}
            if line.get("points"):
                style.update(ls="none", marker=line["points"], ms=line.get("size", 2.5))
            axes.plot(line["x"], line["y"], label=line["label"], **style)
        for level in panel.get("levels", []):
            axes.axhline(level["y"], color=level.get("color", "black"), ls="--", lw=1)
            axes.annotate(level["label"], (0.005, level["y"]), xycoords=("axes fraction", "data"),
                          va="bottom", fontsize="x-small")
        marks = panel.get("marks")
        if marks:
            axes.plot(marks, [0.02] * len(marks), "|", color="tab:red", ms=6, mew=0.4, alpha=0.6,
                      transform=axes.get_xaxis_transform(), label="rounds")
        axes.set_title(panel["title"], fontsize="medium")
        axes.set_xlabel(panel["x"])
        axes.set_ylabel(panel["y"])
        if panel.get("ymin") is not None:
            axes.set_ylim(bottom=panel["ymin"])
        if panel.get("log"):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    for axes in list(grid.flat)[len(panels):]:
        axes.set_visible(False)
    return figure


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        data = json.load(file)
    figure = {"bars": draw_bars, "series": draw_series}[data["kind"]](data)
    figure.suptitle(data.get("title", ""), fontsize="medium")
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=data.get("dpi", 110))


if __name__ == "__main__":
    main()
