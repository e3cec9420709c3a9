"""`memlimit record` and `memlimit plot`: a process's figures over time, as a file and as a picture.

The file is tab-separated with one head line, so that anything can read it: `time` in seconds since the
recording began, then every key of `stat` as the first answer had them.
"""

import subprocess
import sys
import time

from . import processes
from .text import UserError, format_seconds, format_size

MIB = 1024 * 1024


def header(figures):
    return "\t".join(["time", *figures])


def follow(process, out, interval_s, seconds, is_over=lambda: False):
    """Samples until the process ends, `seconds` have passed, or `is_over()`; returns the samples taken."""
    began = time.monotonic()
    samples = 0
    keys = None
    while not is_over():
        at = time.monotonic() - began
        if seconds is not None and at >= seconds:
            break
        try:
            figures = process.stat()
        except UserError:
            if samples:
                break  # it ended: what was recorded is the recording
            raise
        if keys is None:
            keys = list(figures)
            print(header(figures), file=out)
        print("\t".join([f"{at:.3f}", *(str(figures.get(key, "")) for key in keys)]), file=out, flush=True)
        samples += 1
        # To the next whole interval: a slow answer does not shift those after it.
        time.sleep(interval_s - (time.monotonic() - began) % interval_s)
    return samples


def wait_for_socket(child, patience_s):
    """The process of a child that was just started, once it has a socket; None when it ended before."""
    deadline = time.monotonic() + patience_s
    while child.poll() is None:
        try:
            process = processes.find_pid(child.pid)
            if process.address is not None:
                return process
        except UserError:
            pass  # not yet: the launcher is still a shell
        if time.monotonic() > deadline:
            raise UserError(f"{child.pid} has had no statistics socket for {patience_s:.0f} s: is it small?")
        time.sleep(0.01)
    return None


def record(which, output, interval_s, seconds, command):
    try:
        with open(output, "w", encoding="utf-8") as out:
            if command:
                with subprocess.Popen(command) as child:
                    process = wait_for_socket(child, 60.0)
                    if process is not None:
                        samples = follow(process, out, interval_s, seconds, lambda: child.poll() is not None)
                    else:
                        samples = 0
                status = child.returncode
                print(f"memlimit: {samples} samples in {output}; the command ended with {status}", file=sys.stderr)
                return status if status >= 0 else 128 - status
            process = processes.find(which)
            began = time.monotonic()
            samples = follow(process, out, interval_s, seconds)
            took = format_seconds(time.monotonic() - began)
            print(f"memlimit: {samples} samples in {took} in {output}", file=sys.stderr)
            return 0
    except OSError as error:
        raise UserError(f"{output}: {error.strerror}") from error


def read_recording(path):
    """{key: [numbers]}; a key that a sample lacked counts as 0."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if len(lines) < 3 or not lines[0].startswith("time\t"):
        raise UserError(f"{path}: not a recording of `memlimit record`, or an empty one")
    keys = lines[0].split("\t")
    columns = {key: [] for key in keys}
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if len(cells) != len(keys):
            raise UserError(f"{path}:{number}: {len(cells)} columns instead of {len(keys)}")
        for key, cell in zip(keys, cells):
            columns[key].append(float(cell or 0))
    return columns


def plot(path, output, title):
    columns = read_recording(path)
    try:
        import matplotlib  # the only thing here outside of the standard library

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise UserError(
            "plot needs matplotlib: apt install python3-matplotlib (and run this with /usr/bin/python3)"
        ) from error

    def mib(key):
        return [value / MIB for value in columns.get(key, [])]

    times = columns["time"]
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(9, 5.5), gridspec_kw={"height_ratios": [3, 1]}
    )
    if columns.get("rss_anon"):
        above.fill_between(times, mib("rss_anon"), color="#c9d7e8", label="RSS (anonymous)", linewidth=0)
    above.plot(times, mib("heap_alloc"), color="#1f5fa8", linewidth=1.6, label="heap (usage)")
    if any(columns.get("limit", [])):
        above.step(times, mib("limit"), color="#b3261e", linestyle="--", where="post", label="limit")
    above.set_ylabel("MiB")
    above.set_ylim(bottom=0)
    above.grid(alpha=0.25)
    above.legend(loc="upper left", framealpha=0.9)
    above.set_title(title or path)

    rounds = columns.get("rounds", [0.0] * len(times))
    rates = [0.0]
    for i in range(1, len(times)):
        span = times[i] - times[i - 1]
        rates.append((rounds[i] - rounds[i - 1]) / span if span > 0 else 0.0)
    below.fill_between(times, rates, color="#7a7a7a", step="pre", linewidth=0)
    below.set_ylabel("rounds/s")
    below.set_xlabel("seconds")
    below.grid(alpha=0.25)
    below.set_ylim(bottom=0)
    figure.tight_layout()
    try:
        figure.savefig(output, dpi=110)
    except (OSError, ValueError) as error:
        raise UserError(f"{output}: {error}") from error
    peak = max(columns["heap_alloc"])
    print(f"{output}: {len(times)} samples over {format_seconds(times[-1])}, heap at most {format_size(int(peak))}")
    return 0
