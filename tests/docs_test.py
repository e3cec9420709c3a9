#!/usr/bin/env python3
"""The documents tell what the sources say: tables of README.md, variables of the man page, the example.

Usage: docs_test.py SOURCE_ROOT [BUILD_ROOT]; with --print it prints the tables as they should be.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PRINT = "--print" in sys.argv
ROOTS = [pathlib.Path(argument).resolve() for argument in sys.argv[1:] if not argument.startswith("-")]
SOURCE = ROOTS[0]
BUILD = ROOTS[1] if len(ROOTS) > 1 else None
README = (SOURCE / "README.md").read_text(encoding="utf-8")
MANUAL = (SOURCE / "preload" / "memlimit.7").read_text(encoding="utf-8")
NO_EFFECT = "(No effect in this version.)"


def rows(path, macro):
    """The arguments of each MACRO(...) of an .inc file; adjacent strings joined, quotes taken off."""
    text = re.sub(r"/\*.*?\*/", "", (SOURCE / path).read_text(encoding="utf-8"), flags=re.S)
    found = []
    for match in re.finditer(macro + r"\(((?:\"(?:[^\"\\]|\\.)*\"|[^\")])*)\)", text):
        parts = re.split(r",(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", match[1])
        cells = []
        for part in parts:
            strings = re.findall(r'"((?:[^"\\]|\\.)*)"', part)
            cells.append("".join(strings) if strings else part.strip())
        found.append(cells)
    return found


def settings_table():
    lines = ["| variable | value | default | meaning |", "|---|---|---|---|"]
    for _, name, _, unit, default, state, sentence in rows("lib/settings/options.inc", "MEMLIMIT_OPTION"):
        note = "" if state == "kActive" else f" {NO_EFFECT}"
        lines.append(f"| `{name}` | {unit} | `{default}` | {sentence}{note} |")
    return lines


def statistics_table():
    units = {"Bytes": "bytes", "Ns": "ns", "Count": "count"}
    lines = ["| key | kind | unit | meaning |", "|---|---|---|---|"]
    for key, kind, unit, sentence in rows("lib/observe/stats.inc", "MEMLIMIT_STAT"):
        lines.append(f"| `{key}` | {kind.lower()} | {units[unit]} | {sentence} |")
    return lines


def files_table():
    lines = ["| file | content |", "|---|---|"]
    for _, name, sentence in rows("lib/observe/stats_files.inc", "MEMLIMIT_FILE"):
        lines.append(f"| `{name}` | {sentence} |")
    return lines


def table_after(head):
    """The table of README.md that begins with this line."""
    lines = README.splitlines()
    if head not in lines:
        return []
    begin = lines.index(head)
    end = begin
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    return lines[begin:end]


def code_block(language, number=0):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)[number]


class Tables(unittest.TestCase):
    maxDiff = None

    def test_settings_are_those_of_options_inc(self):
        expected = settings_table()
        self.assertGreater(len(expected), 10)
        self.assertEqual(table_after(expected[0]), expected)

    def test_statistics_are_those_of_stats_inc(self):
        expected = statistics_table()
        self.assertGreater(len(expected), 20)
        self.assertEqual(table_after(expected[0]), expected)

    def test_files_are_those_of_stats_files_inc(self):
        expected = files_table()
        self.assertGreater(len(expected), 5)
        self.assertEqual(table_after(expected[0]), expected)


class Doctor(unittest.TestCase):
    def test_it_knows_which_settings_name_files(self):
        # Of another user's process it tries out none of them.
        source = (SOURCE / "scripts" / "memlimit_cli" / "doctor.py").read_text(encoding="utf-8")
        known = re.findall(r'"(\w+)"', re.search(r"^NAMES_A_FILE = \((.*)\)$", source, re.M)[1])
        named = [row[1] for row in rows("lib/settings/options.inc", "MEMLIMIT_OPTION") if "path" in row[3]]
        self.assertEqual(known, named)


class Events(unittest.TestCase):
    def test_every_kind_of_event_is_told_by_somebody(self):
        kinds = {row[0] for row in rows("lib/observe/events.inc", "MEMLIMIT_EVENT")}
        self.assertGreater(len(kinds), 15)
        sources = [path for folder in ("lib", "preload") for path in (SOURCE / folder).rglob("*.cc")]
        text = "".join(path.read_text(encoding="utf-8") for path in sources if path.name != "log.cc")
        self.assertEqual(kinds, set(re.findall(r"EventKind::(k\w+)", text)))


class Manual(unittest.TestCase):
    def test_every_setting_is_explained_and_no_other(self):
        told = re.findall(r"^\.TP\n\.B (MEMLIMIT\w*)$", MANUAL, re.M)
        self.assertEqual(told, [row[1] for row in rows("lib/settings/options.inc", "MEMLIMIT_OPTION")])

    def test_what_has_no_effect_is_said_to_have_none(self):
        for row in rows("lib/settings/options.inc", "MEMLIMIT_OPTION"):
            text = MANUAL.split(f".B {row[1]}\n", 1)[1].split(".TP\n", 1)[0]
            self.assertEqual("No effect in this version." in text, row[5] != "kActive", row[1])

    def test_defaults_are_told(self):
        for row in rows("lib/settings/options.inc", "MEMLIMIT_OPTION"):
            text = MANUAL.split(f".B {row[1]}\n", 1)[1].split(".TP\n", 1)[0]
            if row[4] != "none":
                self.assertRegex(text, rf"\b{re.escape(row[4])}(?!\w)", row[1])

    def test_every_file_of_the_socket_is_named(self):
        section = MANUAL.split(".SH FILES", 1)[1]
        for row in rows("lib/observe/stats_files.inc", "MEMLIMIT_FILE"):
            self.assertRegex(section, rf"\.B {row[1]}\n")

    def test_the_version_is_the_projects(self):
        version = re.search(r"version: '([\d.]+)'", (SOURCE / "meson.build").read_text(encoding="utf-8"))[1]
        self.assertIn(f'"memlimit {version}"', MANUAL)


class Example(unittest.TestCase):
    """README's program with a hook: it must build, and run with the library and without it."""

    def build_and_run(self, language, compiler, suffix, options):
        if shutil.which(compiler) is None:
            self.skipTest(f"no {compiler}")
        with tempfile.TemporaryDirectory() as name:
            source = pathlib.Path(name) / f"example.{suffix}"
            source.write_text(code_block(language), encoding="utf-8")
            program = f"{name}/example"
            built = subprocess.run(
                [compiler, *options, "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}/lib", str(source), "-o", program],
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(built.returncode, 0, built.stderr)
            plain = subprocess.run([program], capture_output=True, text=True, check=False)
            self.assertEqual((plain.returncode, plain.stderr), (0, ""))
            self.assertIn("without memlimit", plain.stdout)
            if BUILD is None:
                self.skipTest("no build directory given")
            run = [str(BUILD / "scripts" / "memlimit-run"), "-l", "32MiB", program]
            # On a busy machine the hook's thread may come late, and the log would rightly say so.
            quiet = {"PATH": "/usr/bin:/bin", "MEMLIMIT_LOG": "error"}
            loaded = subprocess.run(run, env=quiet, capture_output=True, text=True, check=False)
            self.assertEqual((loaded.returncode, loaded.stderr), (0, ""))
            self.assertRegex(loaded.stdout, r"the hook freed [1-9]\d* bytes")

    def test_in_c(self):
        self.build_and_run("c", "gcc", "c", ["-std=c11", "-fPIE", "-pie", "-pthread"])

    def test_in_cpp(self):
        self.build_and_run("cpp", "g++", "cc", ["-std=c++17", "-fPIE", "-pie", "-pthread"])


if __name__ == "__main__":
    if PRINT:
        for table in (settings_table(), files_table(), statistics_table()):
            print("\n".join(table), end="\n\n")
    else:
        unittest.main(argv=sys.argv[:1])
