"""What the tests of the command `memlimit` have in common: it, and processes to look at.

The first argument of a test is BUILD_ROOT.
"""

import contextlib
import io
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
TOOL = str(BUILD / "scripts" / "memlimit")
RUN = str(BUILD / "scripts" / "memlimit-run")
LIBRARY = str(BUILD / "preload" / "libmemlimit.so")

sys.dont_write_bytecode = True
sys.path.insert(0, str(BUILD / "scripts"))
from memlimit_cli import processes  # noqa: E402

# As redis does, for a title of its own in ps.
FORGET = """
import ctypes
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
begin, end = map(int, fields[47:49])
ctypes.memset(begin, 0, end - begin)
"""

NOBODY = 65534
PATIENCE_S = 120  # for a machine that has much else to do; nothing is expected to take it

HOLDER = """
import sys
held = [bytes(100_000) for _ in range(200)]
print("ready", flush=True)
for line in sys.stdin:
    held += [bytes(100_000) for _ in range(int(line))]
    print("ready", flush=True)
"""


def tool(*arguments, **settings):
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/", **settings}
    return subprocess.run(
        ["/usr/bin/python3", TOOL, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@contextlib.contextmanager
def holder(limit="64MiB", socket=None, first="", **settings):
    """A python3 that runs the code `first`, then holds 20 MB under memlimit until its standard input ends."""
    options = ["--socket", socket] if socket else []
    with subprocess.Popen(
        [RUN, "-l", limit, *options, "/usr/bin/python3", "-I", "-c", first + HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **settings},
    ) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise AssertionError("the program under memlimit did not come up")
            # Its socket is made by a thread of its own, which may not have run yet.
            while socket != "off" and processes.find_pid(process.pid).address is None:
                os.sched_yield()
            yield process
        finally:
            process.stdin.close()
            process.wait()


def states(pid):
    """Of each thread, a letter."""
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            found.add(pathlib.Path(f"/proc/{pid}/task/{task}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0])
    return found


@contextlib.contextmanager
def stopped(process):
    """A process that SIGSTOP has stopped, each of its threads."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        while states(process.pid) != {"T"}:
            os.sched_yield()
        yield process
    finally:
        os.kill(process.pid, signal.SIGCONT)


def hold_more(process, blocks):
    process.stdin.write(f"{blocks}\n")
    process.stdin.flush()
    process.stdout.readline()


@contextlib.contextmanager
def server(behave):
    """A socket in a directory of its own whose one client, after its request, is served by behave(connection)."""
    with tempfile.TemporaryDirectory() as name:
        path = f"{name}/s"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()

            def serve():
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(100)
                    behave(connection)

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield path
            finally:
                thread.join()


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def build_plugin(directory):
    """A shared object that leaves a file beside itself when it is loaded; skips where there is no compiler."""
    if shutil.which("gcc") is None:
        raise unittest.SkipTest("no gcc")
    source, plugin = f"{directory}/plugin.c", f"{directory}/plugin.so"
    code = f"""#include <fcntl.h>
__attribute__((constructor)) static void enter(void) {{ open("{directory}/loaded", O_CREAT | O_WRONLY, 0600); }}
"""
    pathlib.Path(source).write_text(code, encoding="utf-8")
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", plugin], check=True)
    return plugin


def as_nobody(copy, *arguments):
    """The tool as another user; `copy` is a directory that this user may read."""
    return subprocess.run(
        ["/usr/bin/python3", f"{copy}/memlimit", *arguments],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
