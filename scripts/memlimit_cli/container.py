"""Which container or unit a process belongs to, in a few characters, from what /proc/PID/cgroup says.

The names are those that runtimes give their cgroups: docker, containerd (nerdctl, Kubernetes), CRI-O, podman, LXC and
systemd. The text is the kernel's, the names in it their makers'.
"""

import re

from .text import printable

ID = r"([0-9a-f]{12})[0-9a-f]{52}"
# Of one part of a path: how a runtime calls a container's cgroup, and what is shown of it.
PARTS = (
    (re.compile(rf"docker-{ID}\.scope"), "docker:{}"),
    (re.compile(rf"cri-containerd-{ID}\.scope"), "containerd:{}"),
    (re.compile(rf"nerdctl-{ID}\.scope"), "nerdctl:{}"),
    (re.compile(rf"crio-{ID}\.scope"), "cri-o:{}"),
    (re.compile(rf"libpod-{ID}(?:\.scope)?"), "podman:{}"),
    (re.compile(r"lxc\.payload\.(.+)"), "lxc:{}"),
    (re.compile(r"machine-(.+)\.scope"), "machine:{}"),
)
# Of two parts: in a parent of this name, what the child is.
PARENTS = {"docker": "docker:{}", "lxc": "lxc:{}", "lxc.payload": "lxc:{}", "default": "containerd:{}"}
POD = re.compile(r"(?:kubepods.*-)?pod([0-9a-f]{8})[-_0-9a-f]{28}(?:\.slice)?")
BARE_ID = re.compile(rf"{ID}")
UNIT = re.compile(r"(.+)\.(?:service|scope|socket|mount)")


def path_of(text):
    """The cgroup that memory is counted in: version 2's, or of version 1 that of the controller `memory`."""
    paths = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths.setdefault(controller, path)
    chosen = [paths[key] for key in ("memory", "", "name=systemd") if key in paths]
    # A unified hierarchy beside version 1's has the names without the memory.
    return next((path for path in chosen if path != "/"), chosen[0] if chosen else "")


def unescape(unit):
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), unit)


def of_part(parent, part):
    for pattern, shown in PARTS:
        if found := pattern.fullmatch(part):
            return shown.format(found[1])
    if parent in PARENTS:
        found = BARE_ID.fullmatch(part)
        return PARENTS[parent].format(found[1] if found else part)
    return None


def short_name(text):
    """`docker:0123456789ab`, `pod:0a1b2c3d/0123456789ab`, `redis-server` of redis-server.service; - for none."""
    parts = [part for part in path_of(text).split("/") if part not in ("", "..", ".")]
    pod, container, unit = None, None, None
    for parent, part in zip(["", *parts], parts):
        if found := POD.fullmatch(part):
            pod, container = found[1], None
        elif named := of_part(parent, part):
            container = named
        elif pod and (found := BARE_ID.fullmatch(part)):
            container = found[1]
        elif found := UNIT.fullmatch(part):
            unit = unescape(found[1])
    if pod:
        return f"pod:{pod}" + (f"/{container.rpartition(':')[2]}" if container else "")
    return printable(container or unit or "-")


def of_process(pid):
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return short_name(file.read())
    except OSError:
        return "-"
