"""`memlimit record` and `memlimit plot`: a process's figures over time, as a file and as a picture.

The file is tab-separated with one head line, so that anything can read it: `time` in seconds since the
recording began, then every key of `stat` as the first answer had them.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time

from . import processes
from .text import UserError, format_seconds, format_size, printable

MIB = 1024 * 1024


class Recording:
    """Lines of a process's figures in an open file."""

    def __init__(self, out, interval_s):
        self.out = out
        self.interval_s = interval_s
        self.samples = 0

    def follow(self, process, seconds, is_over=lambda: False):
        """Samples until the process ends, `seconds` have passed, or `is_over()`."""
        began = time.monotonic()
        keys = None
        while not is_over():
            at = time.monotonic() - began
            if seconds is not None and at >= seconds:
                break
            try:
                figures = process.stat()
            except UserError:
                if self.samples:
                    break  # it ended: what was recorded is the recording
                raise
            if keys is None:
                keys = list(figures)
                print("\t".join(["time", *keys]), file=self.out)
            row = [f"{at:.3f}", *(str(figures.get(key, "")) for key in keys)]
            print("\t".join(row), file=self.out, flush=True)
            self.samples += 1
            # To the next whole interval: a slow answer does not shift those after it.
            time.sleep(self.interval_s - (time.monotonic() - began) % self.interval_s)


def wait_for_socket(child):
    """The process of a child that was just started, once it has a socket; None when it ended before."""
    while child.poll() is None:
        try:
            process = processes.find_pid(child.pid)
            if process.address is not None:
                return process
        except UserError:
            pass  # not yet: the launcher is still a shell
        time.sleep(0.01)
    return None


def record_command(recording, seconds, command):
    """Runs it (memlimit-run, options, --, words) and records it from its first moment; returns its status."""
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="memlimit-record-") as directory:
        if environment.get("MEMLIMIT_SOCKET", "") in ("", "auto", "off"):
            # A program that stays small has a socket only where a place is named for it.
            environment["MEMLIMIT_SOCKET"] = f"{directory}/memlimit-%p.sock"
        with subprocess.Popen(command, env=environment) as child:
            # Ctrl-C is for the command, too: what it does about it is up to it.
            with contextlib.suppress(KeyboardInterrupt):
                if (process := wait_for_socket(child)) is not None:
                    with contextlib.suppress(UserError):  # it ended before the first answer
                        recording.follow(process, seconds, lambda: child.poll() is not None)
    status = child.returncode
    if recording.samples == 0:
        print(
            "memlimit: no samples: the command was over at once, or does not run under memlimit; "
            f"`memlimit doctor -- {command[command.index('--') + 1]}` says why",
            file=sys.stderr,
        )
    return status if status >= 0 else 128 - status


def record(which, output, interval_s, seconds, command):
    began = time.monotonic()
    try:
        with open(output, "w", encoding="utf-8") as out:
            recording = Recording(out, interval_s)
            status = 0
            if command:
                status = record_command(recording, seconds, command)
            else:
                with contextlib.suppress(KeyboardInterrupt):  # the usual end
                    recording.follow(processes.find(which), seconds)
    except OSError as error:
        raise UserError(f"{error.filename or output}: {error.strerror}") from error
    took = format_seconds(time.monotonic() - began)
    ended = f"; the command ended with {status}" if command else ""
    print(f"memlimit: {recording.samples} samples in {took} in {output}{ended}", file=sys.stderr)
    return status


def read_recording(path):
    """{key: [numbers]}; a key that a sample lacked counts as 0."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            # What follows the last newline is a line that was never finished.
            lines = file.read().split("\n")[:-1]
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
        try:
            for key, cell in zip(keys, cells):
                columns[key].append(float(cell or 0))
        except ValueError as error:
            raise UserError(f"{path}:{number}: {printable(cell)} is not a number") from error
    return columns


def plot(path, output, title, against):
    columns = read_recording(path)
    other = read_recording(against) if against else {}
    try:
        import matplotlib  # the only thing here outside of the standard library

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise UserError(
            "plot needs matplotlib: apt install python3-matplotlib (and run this with /usr/bin/python3)"
        ) from error

    def mib(key, of=columns):
        return [value / MIB for value in of.get(key, [])]

    times = columns["time"]
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(9, 5.5), gridspec_kw={"height_ratios": [3, 1]}
    )
    if columns.get("rss_anon"):
        above.fill_between(times, mib("rss_anon"), color="#c9d7e8", label="RSS (anonymous)", linewidth=0)
    if columns.get("heap_alloc"):
        above.plot(times, mib("heap_alloc"), color="#1f5fa8", linewidth=1.6, label="heap (usage)")
    if other.get("rss_anon"):
        above.plot(other["time"], mib("rss_anon", other), color="#7a7a7a", linewidth=1.0, label="RSS of the other recording")
    if any(columns.get("limit", [])):
        above.step(times, mib("limit"), color="#b3261e", linestyle="--", where="post", label="limit")
    if any(let_go := [value > 0 for value in columns.get("limiter_on", [])]):
        band = above.get_xaxis_transform()
        above.fill_between(times, 0, 1, where=let_go, transform=band, color="#b3261e", alpha=0.12, label="limit let go", linewidth=0)
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
        raise UserError(f"{output}: {getattr(error, 'strerror', None) or error}") from error
    peak = max(columns.get("heap_alloc", [0]))
    print(f"{output}: {len(times)} samples over {format_seconds(times[-1])}, heap at most {format_size(int(peak))}")
    return 0
