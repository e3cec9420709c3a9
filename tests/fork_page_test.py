#!/usr/bin/env python3
"""fork_page_test - what each child of fork runs of libmemlimit.so lies on one page, and what it writes on another.

Each page of ours that a child touches is a fault of its own (lib/system/attributes.h), and nothing else would tell that a
function has grown, or is no longer inlined: the child works all the same, a few per cent slower.

Usage: fork_page_test.py LIBRARY
"""

import pathlib
import re
import subprocess
import sys
import unittest

LIBRARY = pathlib.Path(sys.argv.pop(1))
PAGE_BYTES = 4096
BEGIN = "_ZN8memlimit4fork12_GLOBAL__N_15childEv"
# Not run in each child: the service thread of one that has need of it does.
LATER = {"_ZN8memlimit3Log16reset_after_forkEv", "_ZN8memlimit9EventRing16reset_after_forkEv"}


def output_of(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def functions():
    """[(name, first address, address behind it)]"""
    rows = [line.split() for line in output_of("nm", "--defined-only", "--print-size", LIBRARY).splitlines()]
    return [(row[3], int(row[0], 16), int(row[0], 16) + int(row[1], 16))
            for row in rows if len(row) == 4 and row[2] in "tTwW"]


class ForkPage(unittest.TestCase):
    def setUp(self):
        self.functions = functions()
        found = [begin for name, begin, _ in self.functions if name == BEGIN]
        self.assertEqual(len(found), 1, f"{BEGIN} is not a function of {LIBRARY}")
        self.begin = found[0]

    def test_it_begins_with_a_page(self):
        self.assertEqual(self.begin % PAGE_BYTES, 0)

    def test_every_reset_is_on_it(self):
        resets = [row for row in self.functions if "reset_after_fork" in row[0] and row[0] not in LATER]
        self.assertGreater(len(resets), 20)
        for name, begin, end in resets:
            with self.subTest(name):
                self.assertGreaterEqual(begin, self.begin)
                self.assertLessEqual(end, self.begin + PAGE_BYTES)

    def test_what_is_written_is_one_page(self):
        section = re.search(r" memlimit_fork +PROGBITS +([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+) ",
                            output_of("readelf", "--sections", "--wide", LIBRARY))
        self.assertIsNotNone(section)
        address, size = (int(figure, 16) for figure in section.groups())
        self.assertEqual(address % PAGE_BYTES, 0)
        self.assertLessEqual(size, PAGE_BYTES)


if __name__ == "__main__":
    unittest.main()
