#!/usr/bin/env python3
"""includes_test - holds the #include lines of lib/ and preload/ to the order of the rooms.

Includes run one way: preload -> the door -> runtimes -> engine -> observe -> settings -> system. `pacing` decides on
numbers alone and knows nothing of ours but the compiler's attributes; whoever acts or shows may include it. `heap` and
`profile` know `system` alone. Within a room the files that include one another must not form a circle either.

Usage: includes_test.py SOURCE_DIR
"""

import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".").resolve()

ATTRIBUTES = "system/attributes.h"
DOOR = "door"  # memlimit.h, memlimit.hpp and api.cc, at the top of lib/

# What the files of a room may include besides their own room. The public header declares types that figures and hooks
# share; DOOR stands for it alone, since nothing else at the door is a header of ours.
ALLOWED = {
    "system": set(),
    "settings": {"system"},
    "pacing": {ATTRIBUTES},
    "heap": {"system"},
    "profile": {"system"},
    "observe": {"settings", "system", "pacing", "memlimit.h"},
    "engine": {"profile", "observe", "settings", "system", "pacing", "memlimit.h"},
    "runtimes": {"engine", "profile", "observe", "settings", "system", "pacing", "memlimit.h"},
    DOOR: {"runtimes", "engine", "profile", "observe", "settings", "system", "pacing"},
    "preload": {DOOR, "runtimes", "engine", "observe", "settings", "system", "pacing", "heap", "profile"},
}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def sources(root):
    """Every file of lib/ and preload/ that may hold an #include, relative to `root`."""
    for folder in ("lib", "preload"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".h", ".hpp", ".cc", ".c", ".inc"):
                yield path.relative_to(root)


def room_of(path):
    """The room that a file stands in: its first folder in lib/, `preload`, or the door."""
    if path.parts[0] == "preload":
        return "preload"
    return path.parts[1] if len(path.parts) > 2 else DOOR


def resolve(root, path, name):
    """The file that `#include "name"` in `path` means, relative to `root`; None where it is none of ours."""
    for folder in (path.parent, pathlib.Path("lib")):
        if (root / folder / name).is_file():
            return folder / name
    return None


def may_include(path, target):
    """Whether the arrow from one file to the other points down."""
    room, other = room_of(path), room_of(target)
    if room == other:
        return True
    name = target.relative_to("lib").as_posix() if target.parts[0] == "lib" else None
    return other in ALLOWED.get(room, set()) or name in ALLOWED.get(room, set())


def arrows(root):
    """(from, to) for each #include of ours in lib/ and preload/; a name that no file has comes as a string."""
    for path in sources(root):
        for name in INCLUDE.findall((root / path).read_text(encoding="utf-8")):
            yield path, resolve(root, path, name) or name


def circles(pairs):
    """The files that reach themselves: each with one way round."""
    below = {}
    for path, target in pairs:
        below.setdefault(path, []).append(target)
    done, found = set(), []

    def walk(path, way):
        if path in way:
            found.append(way[way.index(path):] + [path])
        elif path not in done:
            for target in below.get(path, []):
                walk(target, way + [path])
            done.add(path)

    for path in list(below):
        walk(path, [])
    return found


def unit_of(path):
    """A header and its source are one module: what either includes, the other depends on."""
    return path.with_suffix("")


class Includes(unittest.TestCase):
    def test_every_room_has_a_rule(self):
        rooms = {room_of(path) for path in sources(ROOT)}
        self.assertEqual(rooms - set(ALLOWED), set())

    def test_every_include_names_a_file(self):
        self.assertEqual([f"{path}: {target}" for path, target in arrows(ROOT) if isinstance(target, str)], [])

    def test_no_arrow_points_up(self):
        wrong = [
            f"{path} includes {target}: {room_of(path)} may not know {room_of(target)}"
            for path, target in arrows(ROOT)
            if not isinstance(target, str) and not may_include(path, target)
        ]
        self.assertEqual(wrong, [])

    def test_no_modules_include_one_another(self):
        pairs = [
            (unit_of(path), unit_of(target))
            for path, target in arrows(ROOT)
            if not isinstance(target, str) and unit_of(path) != unit_of(target)
        ]
        self.assertEqual([" -> ".join(map(str, way)) for way in circles(pairs)], [])


if __name__ == "__main__":
    unittest.main()
