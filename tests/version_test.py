#!/usr/bin/env python3
"""The version stands in meson.build alone, and everything that tells it tells that one.

Usage: version_test.py SOURCE_ROOT BUILD_ROOT.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE, BUILD = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
RUN = str(BUILD / "scripts" / "memlimit-run")
VERSION = re.search(r"^  version: '([\w.+~-]+)',$", (SOURCE / "meson.build").read_text(encoding="utf-8"), re.M)[1]

# A process under the library that says what the client of the tool reads from its socket.
READ_OWN = """
import os, sys
sys.path.insert(0, sys.argv[1])
from memlimit_cli import client
for file in ("status", "metrics", "openmetrics"):
    print(client.ask(os.environ["MEMLIMIT_SOCKET"], file))
"""


def said_by(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


class Version(unittest.TestCase):
    def test_the_commands_tell_it(self):
        for command in (SOURCE / "scripts" / "memlimit", BUILD / "scripts" / "memlimit"):
            self.assertEqual(said_by("/usr/bin/python3", str(command), "--version"), f"memlimit {VERSION}\n")
        self.assertEqual(said_by(RUN, "--version"), f"memlimit-run {VERSION}\n")

    def test_a_process_tells_it(self):
        with tempfile.TemporaryDirectory() as directory:
            place = f"--socket={directory}/memlimit.sock"
            # The first moments of a process have no socket yet: the program waits for it.
            wait = "import os, time\nwhile not os.path.exists(os.environ['MEMLIMIT_SOCKET']): time.sleep(0.01)\n"
            text = said_by(
                RUN, "-l", "256MiB", place, "/usr/bin/python3", "-B", "-c", wait + READ_OWN, str(BUILD / "scripts")
            )
        self.assertEqual(re.findall(r"^Version:\t(.*)$", text, re.M), [VERSION])
        self.assertEqual(text.count(f'memlimit_build_info{{version="{VERSION}"}} 1\n'), 2)

    def test_the_manual_tells_it(self):
        pages = sorted((BUILD).glob("*/*.[1-8]"))
        self.assertGreater(len(pages), 0)
        for page in pages:
            with self.subTest(page.name):
                self.assertIn(f'"memlimit {VERSION}"', page.read_text(encoding="utf-8"))

    @unittest.skipUnless((SOURCE / ".git").exists(), "this is no checkout")
    def test_it_stands_nowhere_else(self):
        tracked = said_by("git", "-C", str(SOURCE), "ls-files", "-z").split("\0")[:-1]
        self.assertGreater(len(tracked), 100)
        told = re.compile(rf"memlimit[- ]{re.escape(VERSION)}\b")
        again = []
        for name in tracked:
            path = SOURCE / name
            if path.is_file() and told.search(path.read_text(encoding="utf-8", errors="replace")):
                again.append(name)
        self.assertEqual(again, [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
