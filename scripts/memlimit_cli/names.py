"""Whether a socket's name is one that the library makes: of its own places, or of what MEMLIMIT_SOCKET says."""

import os
import re

SETTING_CAP = 256  # of MEMLIMIT_SOCKET: the library takes no longer one


def after(part, name, begins, pid):
    """Where a part of MEMLIMIT_SOCKET that begins at one of these places of `name` may end."""
    if part == "%h":
        ends = set()
        for at in sorted(begins):
            while at not in ends:
                ends.add(at)
                if at == len(name) or name[at] == "/":
                    break
                at += 1
        return ends
    literal = {"%p": str(pid), "%%": "%"}.get(part, part)
    ends = {at + len(literal) for at in begins if name.startswith(literal, at)}
    if part == "%p":
        ends.update(*(ends_of_number(name, at) for at in tuple(ends)))
    return ends


def ends_of_number(name, at):
    """Of the -2, -3 that tell two processes of the same pid apart."""
    found = re.compile("-[0-9]+").match(name, at)
    return range(at + 2, found.end() + 1) if found else ()


def follows(name, setting, pid):
    """Whether `name` is what the library may make of this MEMLIMIT_SOCKET. The setting is another process's, the
    name anybody's: the time it takes is theirs to choose only up to the product of the lengths."""
    if "/" not in setting or len(setting) >= SETTING_CAP:
        return False
    if setting.endswith("/"):
        setting += "%p.sock"
    # A relative path was made absolute: its end must agree.
    begins = {0} if setting.startswith("/") else {at + 1 for at, c in enumerate(name) if c == "/"}
    for part in re.split("(%[ph%])", setting.removeprefix("./")):
        begins = after(part, name, begins, pid)
    return len(name) in begins


def is_ours(name, inner_pid, environment):
    default = rf"(@memlimit/{inner_pid}(-\d+)?|/(.*/)?memlimit(-\d+)?/{inner_pid}(-\d+)?\.sock)"
    if re.fullmatch(default, name) or "memlimit" in os.path.basename(name):
        return True
    return follows(name, environment.get("MEMLIMIT_SOCKET", ""), inner_pid)
