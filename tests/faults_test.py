#!/usr/bin/env python3
"""System calls that fail: every one that the library makes, now and then, under a real program.

strace makes the kernel refuse every k-th call of a kind, from the first that is not the loader's. The program must
end as it does otherwise; only where memory itself is refused may its allocations fail, as it tells.

Usage: faults_test.py BUILD_ROOT [NAME]...
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

PATIENCE_S = 240  # nothing is expected to take it
# Each thread's calls count for themselves. Of the loader's none may fail: no program would start.
# name: (system calls, errors, the first call to fail, whether the program is refused memory by it)
FAULTS = {
    "map": ("mmap", ("ENOMEM",), 26, True),
    "protect": ("mprotect", ("ENOMEM",), 6, True),
    "advise": ("madvise", ("ENOMEM", "EAGAIN", "EINVAL"), 1, False),
    "open": ("openat", ("EMFILE", "ENOENT", "EACCES"), 12, False),
    "read": ("pread64,read", ("EIO", "EINTR"), 14, False),
    "threads": ("clone3", ("EAGAIN", "ENOSYS"), 1, False),
    "wake": ("eventfd2", ("EMFILE", "ENOMEM"), 1, False),
    "wait": ("poll,ppoll", ("EINTR", "ENOMEM"), 1, False),
    "socket": ("socket", ("EMFILE", "EACCES"), 1, False),
    "bind": ("bind,listen", ("EADDRINUSE", "EROFS", "ENOSPC"), 1, False),
    "epoll": ("epoll_create1,epoll_ctl,epoll_wait", ("EMFILE", "ENOMEM", "ENOSPC"), 1, False),
    "files": ("mkdir,unlink,rename,chmod,fchmod,newfstatat,fstat,statx", ("EROFS", "EIO", "ELOOP"), 14, False),
    "write": ("write,writev", ("ENOSPC", "EIO", "EAGAIN"), 1, False),
    "clocks": ("clock_gettime,getrusage", ("EINVAL",), 1, False),
    "processors": ("sched_getaffinity,prctl,fcntl", ("EPERM", "EINVAL"), 1, False),
}
STEPS = (1, 2, 7)
# Whoever is interrupted tries again, and may do so for ever; and without any memory a program only gets slow.
PASSING = ("EINTR", "ENOMEM in mmap", "ENOMEM in mprotect")


class Failure(Exception):
    """What did not hold."""


def run(build, command, inject, directory):
    prefix = ["strace", "-f", "-qq", "-o", f"{directory}/strace", "-e", f"trace={inject[0]}",
              "-e", f"inject={inject[0]}:error={inject[1]}:when={inject[2]}+{inject[3]}"]
    environment = {
        "PATH": "/usr/bin:/bin", "LD_PRELOAD": str(build / "preload" / "libmemlimit.so"), "MEMLIMIT": "8MiB",
        "MEMLIMIT_SOCKET": f"{directory}/socket", "MEMLIMIT_LOG": f"debug:{directory}/log",
    }
    # The library for the program alone: strace is not what is to be tested.
    for key, value in environment.items():
        prefix += ["-E", f"{key}={value}"]
    process = subprocess.Popen(prefix + command, env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the traced program, too
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def check(build, program, fault, error, step):
    calls, _, first, refuses_memory = FAULTS[fault]
    with tempfile.TemporaryDirectory(prefix="memlimit-faults-") as directory:
        ended = run(build, [program], (calls, error, first, step), directory)
        injected = (pathlib.Path(directory) / "strace").read_text(errors="replace").count("(INJECTED)")
    what = f"{calls}: {error} from call {first}, each {step}th, {injected} injected"
    told = re.fullmatch(r"done, (\d+) refused\n", ended.stdout)
    # Its own line is written by write(), too.
    if ended.returncode != 0 or (told is None and "write" not in calls):
        raise Failure(f"{what}: status {ended.returncode}\n{ended.stdout}{ended.stderr}")
    if told and int(told[1]) and not refuses_memory:
        raise Failure(f"{what}: {told[1]} allocations failed")
    # What goes wrong with the library's own calls may be told, by the library and in whole lines. strace says that it
    # could not make a call fail when a thread is in one while another one ends the process.
    strange = [line for line in ended.stderr.splitlines()
               if not line.startswith(("memlimit[", "strace: Failed to tamper with process"))]
    if strange:
        raise Failure(f"{what}: strange words: {strange}")
    return injected


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    program = str(build / "tests" / "preload" / "preload_goes_on_when_calls_fail")
    names = sys.argv[2:] or FAULTS
    probe = shutil.which("strace") and subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "trace=getppid", "-e", "inject=getppid:error=EPERM", "true"],
        capture_output=True, check=False)
    if not probe or probe.returncode != 0:
        print("strace cannot trace here")
        return 77
    failed = 0
    print(f"1..{len(names)}")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number, name in enumerate(names, 1):
            runs = [pool.submit(check, build, program, name, error, step)
                    for error in FAULTS[name][1] for step in STEPS
                    if step > 1 or not {error, f"{error} in {FAULTS[name][0]}"} & set(PASSING)]
            injected, complaints = 0, []
            for one in runs:
                try:
                    injected += one.result()
                except (Failure, subprocess.TimeoutExpired) as error:
                    complaints.append(str(error))
            if not complaints and injected == 0:
                complaints.append("not one call was made to fail")
            print(f"{'not ok' if complaints else 'ok'} {number} {name} ({injected} calls failed)")
            for complaint in complaints:
                print("".join(f"  # {line}\n" for line in complaint[:2000].splitlines()), end="")
            sys.stdout.flush()
            failed += bool(complaints)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
