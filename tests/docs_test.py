#!/usr/bin/env python3
"""The documents tell what the sources say: tables and figures of the Markdown files, the man page, links, commands,
and the example programs, which are built and run.

Usage: docs_test.py SOURCE_ROOT [BUILD_ROOT]; with --print it prints the tables as they should be.
"""

import ast
import collections
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

PRINT = "--print" in sys.argv
ROOTS = [pathlib.Path(argument).resolve() for argument in sys.argv[1:] if not argument.startswith("-")]
SOURCE = ROOTS[0]
BUILD = ROOTS[1] if len(ROOTS) > 1 else None
MANUAL = (SOURCE / "preload" / "memlimit.7").read_text(encoding="utf-8")
NO_EFFECT = "(No effect in this version.)"
README_LINES = 300
SITTING_LINES = 200  # of a page of lib/
PATIENCE_S = 30


def documents():
    """Every Markdown file of the repository; not those of build directories, and of tools that live in hidden ones."""
    found = []
    for folder, folders, names in os.walk(SOURCE):
        here = pathlib.Path(folder)
        folders[:] = [name for name in folders if not name.startswith(".") and not (here / name / "meson-private").exists()]
        found += [here / name for name in names if name.endswith(".md")]
    return sorted(found)


@functools.cache
def text_of(name):
    return (SOURCE / name).read_text(encoding="utf-8")


# --- What the sources say ---


def rows(path, macro):
    """The arguments of each MACRO(...) of an .inc file; adjacent strings joined, quotes taken off."""
    text = re.sub(r"/\*.*?\*/", "", text_of(path), flags=re.S)
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


def events_table():
    lines = ["| event | level | meaning | figures |", "|---|---|---|---|"]
    for _, name, level, sentence, *arguments in rows("lib/observe/events.inc", "MEMLIMIT_EVENT"):
        # Of `{kNumber, "round"}` the comma makes two cells.
        keys = ", ".join(f"`{argument}`" for argument in arguments if not argument.startswith("{"))
        lines.append(f"| `{name}` | {level[1:].lower()} | {sentence} | {keys} |")
    return lines


def instructions_table(machine=""):
    lines = [f"| entry{machine and ' on '}{machine} | memlimit | forward |", "|---|---|---|"]
    for line in text_of(f"bench/golden/instructions{machine and '_'}{machine}.txt").splitlines():
        if not line.startswith(("#", "entry")):
            entry, memlimit, forward = line.split()
            lines.append(f"| `{entry}` | {memlimit} | {forward} |")
    return lines


def programs_table():
    """The rows of tests/compat/RESULTS.md, those of one program together."""
    programs = collections.OrderedDict()
    for line in text_of("tests/compat/RESULTS.md").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and not cells[0].startswith(("program", "---")):
            programs.setdefault(cells[1], []).append((cells[0], cells[3], cells[4]))
    lines = ["| program and version | rows | with the library | at 16MiB |", "|---|---|---|---|"]
    for program, done in programs.items():
        cells = [", ".join(dict.fromkeys(row[i] for row in done)) for i in range(3)]
        lines.append(f"| {program} | {' | '.join(cells)} |")
    return lines


def constants():
    """{name: the expressions that define it} of the constants in lib/ and preload/."""
    found = collections.defaultdict(list)
    for folder in ("lib", "preload"):
        for path in sorted((SOURCE / folder).rglob("*")):
            if path.suffix in (".h", ".cc"):
                for match in re.finditer(r"\bconstexpr [\w:]+ (k\w+) =\s*([^;]+);", path.read_text(encoding="utf-8")):
                    found[match[1]].append(match[2])
    return found


def number(expression, known):
    """The value of a constant expression of C++: numbers, other constants, and arithmetic."""
    text = re.sub(r"(?<=\d)'(?=\d)", "", expression)
    text = re.sub(r"\b(?:std::)?(?:u?int\d*_t|size_t)\{(\w+)\}", r"\1", text)
    text = re.sub(r"\bk[A-Z]\w*", lambda match: str(number(known[match[0]][0], known)), text)
    tree = ast.parse(text.strip(), mode="eval")
    allowed = (ast.Expression, ast.BinOp, ast.Constant, ast.Mult, ast.Add, ast.Sub, ast.LShift, ast.Pow)
    if not all(isinstance(node, allowed) for node in ast.walk(tree)):
        raise ValueError(f"no constant expression: {expression}")
    return eval(compile(tree, "constant", "eval"))  # nothing but the nodes above


UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "ms": 10**6, "s": 10**9, "%": 1, "": 1}


def as_written(value):
    """The number of a constant that the table shows as `64 KiB`, `2 ms`, `96 %`, `1/25` or `16`."""
    match = re.fullmatch(r"(1/)?(\d+) ?([A-Za-z%]*)", value)
    return int(match[2]) * UNITS[match[3]]


# --- What the documents say ---


def table_after(name, head):
    """The table of a document that begins with this line."""
    lines = text_of(name).splitlines()
    if head not in lines:
        return []
    begin = lines.index(head)
    end = begin
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    return lines[begin:end]


def section(name, heading):
    return re.split(r"^## ", text_of(name).split(f"\n## {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def code_block(name, language, number_of_block=0):
    return re.findall(rf"```{language}\n(.*?)```", text_of(name), re.S)[number_of_block]


def prose(text):
    """The text without its blocks of code, which keep their lines."""
    return re.sub(r"^```.*?^```$", lambda match: "\n" * match[0].count("\n"), text, flags=re.M | re.S)


def anchors(path):
    """The anchors of a document's headings, as GitHub makes them."""
    found = collections.Counter()
    names = set()
    for heading in re.findall(r"^#+ +(.*?) *$", prose(path.read_text(encoding="utf-8")), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        names.add(slug if found[slug] == 0 else f"{slug}-{found[slug]}")
        found[slug] += 1
    return names


def broken_links(path):
    """Links of a document to files and headings of the repository that are not there."""
    text = re.sub(r"`[^`\n]*`", "", prose(path.read_text(encoding="utf-8")))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"", text):
        target = target[0] or target[1]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and (not file.is_file() or anchor not in anchors(file))):
            broken.append(target)
    return broken


def commands(path):
    """The lines of a document's blocks of code, fenced and indented; a comment in C is none."""
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    blocks = [block for language, block in fenced if language not in ("c", "cpp")]
    blocks += re.findall(r"^ {4}(?![ +>|-]).*$", prose(text), re.M)
    return [line for block in blocks for line in block.splitlines()]


OURS = re.compile(r"(?<![\w./-])(?:build/)?((?:scripts|bench|tests|\.ci)/[\w./-]*\w)")
BUNDLED = re.compile(r"/opt/memlimit/([\w.-]*\w)")
COMPILED = {"scripts/memlimit-run": "launcher/options.c"}
IN_BUNDLE = ("memlimit-run", "memlimit", "libmemlimit.so")


def source_of(path):
    """The file that a path of the build tree is made from: the same script, but for what is compiled."""
    return SOURCE / COMPILED.get(path, path)


def names_of_ours(line):
    """Paths of the repository that a line names, as (path as written, the file it must be)."""
    for match in OURS.finditer(line):
        # What a build makes: copies of scripts, and the tests' programs.
        if not match[0].startswith("build/tests/"):
            yield match[0], source_of(match[1])


def unknown_options(line):
    """Options that a command gives to a script of ours whose text does not have them."""
    match = OURS.search(line)
    if match is None or not source_of(match[1]).is_file():
        return []
    words = re.split(r" (?:--|\||>|&&|#)(?: |$)", line[match.end() :] + " ", maxsplit=1)[0].split()
    script = source_of(match[1]).read_text(encoding="utf-8")
    if "benchlib" in script:
        script += text_of("bench/benchlib.py")
    given = [word.split("=")[0] for word in words if re.match(r"--\w", word)]
    return [option for option in given if not re.search(rf"(?<![\w-]){option}(?![\w-])", script)]


class Tables(unittest.TestCase):
    maxDiff = None

    def hold(self, name, expected, least):
        self.assertGreater(len(expected), least)
        self.assertEqual(table_after(name, expected[0]), expected)

    def test_settings_are_those_of_options_inc(self):
        self.hold("README.md", settings_table(), 10)

    def test_files_are_those_of_stats_files_inc(self):
        self.hold("lib/statistics.md", files_table(), 5)
        named = section("README.md", "The statistics socket").split("The files are", 1)[1].split("(", 1)[0]
        self.assertEqual(re.findall(r"`(\w+)`", named), [row.split("`")[1] for row in files_table()[2:]])

    def test_statistics_are_those_of_stats_inc(self):
        self.hold("lib/statistics.md", statistics_table(), 20)

    def test_events_are_those_of_events_inc(self):
        self.hold("lib/statistics.md", events_table(), 15)

    def test_instructions_are_those_of_the_golden_file(self):
        self.hold("bench/README.md", instructions_table(), 8)
        self.hold("bench/README.md", instructions_table("arm64"), 8)

    def test_programs_are_those_of_the_compatibility_results(self):
        self.hold("tests/README.md", programs_table(), 20)

    def test_options_of_memlimit_run_are_its_own(self):
        # The table of the options, against what the launcher prints.
        launcher = [str(BUILD / "scripts" / "memlimit-run"), "--help"]
        help_text = subprocess.run(launcher, capture_output=True, text=True, check=True).stdout
        printed = re.findall(r"^ +(?:-l, )?(--[a-z]+=\S+) +(MEMLIMIT\w*|the)", help_text, re.M)
        told = re.findall(r"^\| (?:`-l`, )?`(--[a-z]+=\S+)` \| `?(MEMLIMIT\w*|the)", text_of("scripts/README.md"), re.M)
        self.assertGreater(len(told), 5)
        self.assertEqual(told, printed)


class Figures(unittest.TestCase):
    def test_constants_are_those_of_the_sources(self):
        known = constants()
        told = re.findall(r"^\| `(k\w+)` \| ([^|]+?) \|", text_of("lib/README.md"), re.M)
        self.assertGreater(len(told), 20)
        for name, value in told:
            with self.subTest(name):
                self.assertEqual({number(expression, known) for expression in known[name]}, {as_written(value)})

    def test_costs_are_those_of_the_measurements(self):
        sections = ("Counting", "Real programs", "Starting")
        measured = {figure for name in sections for figure in re.findall(r"\d+\.\d+", section("bench/README.md", name))}
        told = re.findall(r"\d+\.\d+", section("README.md", "What it costs"))
        self.assertGreater(len(told), 2)
        self.assertEqual([figure for figure in told if figure not in measured], [])

    def test_a_pair_costs_what_the_golden_file_says(self):
        turn = {row.split("`")[1]: [float(cell) for cell in row.split("|")[2:4]] for row in instructions_table()[2:]}
        more = round(turn["malloc"][0] - turn["malloc"][1])
        told = f"takes {abs(more)} instructions {'more' if more > 0 else 'less'} than passing it on"
        self.assertIn(told, " ".join(text_of("bench/README.md").split()))


class Readme(unittest.TestCase):
    def test_it_is_read_in_five_minutes(self):
        self.assertLessEqual(len(text_of("README.md").splitlines()), README_LINES)

    def test_its_incident_is_the_one_that_is_replayed(self):
        # scripts/incident is run by a test of its own, and checks what it prints.
        shown = [line.split()[2:] for line in section("README.md", "Who holds the memory").splitlines() if line.startswith("$ memlimit")]
        replayed = text_of("scripts/incident")
        self.assertEqual([words[0] for words in shown], ["top", "doctor", "heap", "set", "ps"])
        for verb in ("top", "heap", "set", "ps"):
            self.assertIn(f'engineer.types("{verb}"', replayed)
        self.assertIn('self.run("doctor", "-p"', replayed)

    def test_each_page_of_the_library_is_read_in_one_sitting(self):
        pages = sorted((SOURCE / "lib").rglob("*.md"))
        self.assertGreater(len(pages), 8)
        for page in pages:
            with self.subTest(page.relative_to(SOURCE)):
                self.assertLessEqual(len(page.read_text(encoding="utf-8").splitlines()), SITTING_LINES)

    def test_links_lead_somewhere(self):
        self.assertGreater(len(documents()), 4)
        for path in documents():
            with self.subTest(path.relative_to(SOURCE)):
                self.assertEqual(broken_links(path), [])

    def test_every_file_of_ours_that_is_named_exists(self):
        # In blocks of code, and in what the text sets in backticks.
        named = 0
        for path in documents():
            quoted = re.findall(r"`([^`\n]+)`", prose(path.read_text(encoding="utf-8")))
            for line in commands(path) + quoted:
                for written, file in names_of_ours(line):
                    named += 1
                    self.assertTrue(file.exists(), f"{path.relative_to(SOURCE)}: {written} in: {line}")
                for name in BUNDLED.findall(line):
                    self.assertIn(name, IN_BUNDLE, f"{path.relative_to(SOURCE)}: {line}")
        self.assertGreater(named, 60)

    def test_every_option_of_a_script_of_ours_is_one(self):
        for path in documents():
            for line in commands(path) + re.findall(r"`([^`\n]+)`", prose(path.read_text(encoding="utf-8"))):
                self.assertEqual(unknown_options(line), [], f"{path.relative_to(SOURCE)}: {line}")


class Doctor(unittest.TestCase):
    def test_it_knows_which_settings_name_files(self):
        # Of another user's process it tries out none of them.
        known = re.findall(r'"(\w+)"', re.search(r"^NAMES_A_FILE = \((.*)\)$", text_of("scripts/memlimit_cli/startup.py"), re.M)[1])
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
        files = MANUAL.split(".SH FILES", 1)[1]
        for row in rows("lib/observe/stats_files.inc", "MEMLIMIT_FILE"):
            self.assertRegex(files, rf"\.B {row[1]}\n")


class Example(unittest.TestCase):
    """The programs with a hook: they must build, and run with the library and without it."""

    def build_and_run(self, document, language, compiler, options, plain_says, loaded_says):
        if shutil.which(compiler) is None:
            self.skipTest(f"no {compiler}")
        suffix = {"c": "c", "cpp": "cc"}[language]
        with tempfile.TemporaryDirectory() as name:
            source = pathlib.Path(name) / f"example.{suffix}"
            source.write_text(code_block(document, language), encoding="utf-8")
            program = f"{name}/example"
            options = [*options, "-fPIE", "-pie", "-pthread", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}/lib"]
            built = subprocess.run(
                [compiler, *options, str(source), "-o", program], capture_output=True, text=True, check=False
            )
            self.assertEqual(built.returncode, 0, built.stderr)
            plain = subprocess.run([program], capture_output=True, text=True, check=False)
            self.assertEqual((plain.returncode, plain.stderr), (0, ""))
            self.assertIn(plain_says, plain.stdout)
            if BUILD is None:
                self.skipTest("no build directory given")
            run = [str(BUILD / "scripts" / "memlimit-run"), "-l", "32MiB", program]
            # On a busy machine the hook's thread may come late, and the log would rightly say so. The program may even end
            # before that thread had a processor: then it is run again.
            quiet = {"PATH": "/usr/bin:/bin", "MEMLIMIT_LOG": "error"}
            deadline = time.monotonic() + PATIENCE_S
            while True:
                loaded = subprocess.run(run, env=quiet, capture_output=True, text=True, check=False)
                self.assertEqual((loaded.returncode, loaded.stderr), (0, ""))
                if re.search(loaded_says, loaded.stdout) or time.monotonic() > deadline:
                    break
            self.assertRegex(loaded.stdout, loaded_says)

    def test_of_the_readme(self):
        said = ("4096 of 4096 entries", r"^(?!4096)\d+ of 4096 entries are cached$")
        self.build_and_run("README.md", "cpp", "g++", ["-std=c++17"], *said)

    def test_in_c(self):
        said = ("without memlimit", r"the hook freed [1-9]\d* bytes")
        self.build_and_run("lib/hooks.md", "c", "gcc", ["-std=c11"], *said)

    def test_in_cpp(self):
        said = ("without memlimit", r"the hook freed [1-9]\d* bytes")
        self.build_and_run("lib/hooks.md", "cpp", "g++", ["-std=c++17"], *said)


if __name__ == "__main__":
    if PRINT:
        for table in (
            settings_table(), files_table(), statistics_table(), events_table(), instructions_table(), programs_table()
        ):
            print("\n".join(table), end="\n\n")
    else:
        unittest.main(argv=sys.argv[:1])
