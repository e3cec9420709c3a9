#!/usr/bin/env python3
"""The manuals and the completions of the shells have every command and option that the commands tell of themselves.

Usage: completions_test.py SOURCE_ROOT BUILD_ROOT.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE, BUILD = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
TOOL = str(BUILD / "scripts" / "memlimit")
RUN = str(BUILD / "scripts" / "memlimit-run")
COMPLETIONS = BUILD / "scripts" / "completions"
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[a-zA-Z])(?![\w-])")
PATIENCE_S = 120


def said_by(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def options_of(text):
    """The options that a help text heads its lines with."""
    found = set()
    for line in re.findall(r"^ +(-.*)$", text, re.M):
        found |= set(OPTION.findall(re.split(r"  ", line, maxsplit=1)[0]))
    return found


def told_by_the_tool():
    """{command: its options} as `memlimit --help` and each command's help tell them; `run` is memlimit-run."""
    names = re.findall(r"^    (\w+)(?:  .*)?$", said_by("/usr/bin/python3", TOOL, "--help"), re.M)
    told = {name: options_of(said_by("/usr/bin/python3", TOOL, name, "--help")) for name in names}
    if len(told) < 9 or len(told["run"]) < 10:
        raise AssertionError(f"the help is not understood: {told}")
    return told


TOLD = told_by_the_tool()


def plain(path):
    """A manual's text without the escapes of its hyphens."""
    return path.read_text(encoding="utf-8").replace("\\-", "-")


class Manuals(unittest.TestCase):
    TOOL_PAGE = plain(SOURCE / "scripts" / "memlimit.1")
    RUN_PAGE = plain(SOURCE / "launcher" / "memlimit-run.1")

    def test_every_command_has_its_section_with_its_options(self):
        parts = re.split(r"^\.SS (?:memlimit )?(\w+).*$", self.TOOL_PAGE.split(".SH COMMANDS", 1)[1], flags=re.M)
        sections = dict(zip(parts[1::2], parts[2::2]))
        for name, options in TOLD.items():
            self.assertIn(name, sections)
            if name != "run":
                missing = {o for o in options - {"-h", "--help"} if not re.search(rf"(?<![\w-]){o}(?![\w-])", sections[name])}
                self.assertEqual(missing, set(), name)

    def test_every_option_of_memlimit_run_is_explained(self):
        missing = {o for o in TOLD["run"] if not re.search(rf"(?<![\w-]){o}(?![\w-])", self.RUN_PAGE)}
        self.assertEqual(missing, set())

    def test_every_column_is_explained(self):
        process = subprocess.run(
            [RUN, "-l", "64MiB", f"--socket={tempfile.gettempdir()}/memlimit-%p.sock", "/usr/bin/python3", TOOL, "ps"],
            capture_output=True, text=True, check=False,
        )
        heads = process.stdout.splitlines()[0].split()
        hooks = re.search(r'"( context  .*?)"\s*"(.*?)\\n"', (SOURCE / "lib/observe/stats_text.cc").read_text(encoding="utf-8"))
        heads += ["name", *hooks[1].split(), *hooks[2].split()]
        heap = (SOURCE / "lib/observe/heap_text.cc").read_text(encoding="utf-8")
        heads += re.sub(r'"\s*"', "", re.search(r'"(class  .*?)\\n"', heap, re.S)[1]).split()
        heads += re.search(r'"(thread  .*?)\\n"', heap)[1].split()
        self.assertGreater(len(heads), 25)
        for head in heads:
            with self.subTest(head):
                self.assertRegex(self.TOOL_PAGE, rf"\n\.TP\n\.B {re.escape(head)}\n")

    def test_every_function_of_the_header_is_in_section_3(self):
        page = plain(SOURCE / "lib" / "memlimit.3")
        header = (SOURCE / "lib" / "memlimit.h").read_text(encoding="utf-8")
        functions = re.findall(r"^MEMLIMIT_API .*?\b(memlimit_\w+)\(", header, re.M)
        self.assertEqual(len(functions), 9)
        for name in [*functions, "memlimit_is_loaded", *re.findall(r"\bMEMLIMIT_(?!API|H\b|BUILDING)[A-Z_]+\b", header)]:
            self.assertIn(name, page)

    @unittest.skipUnless(shutil.which("groff"), "groff is not installed")
    def test_groff_finds_no_fault(self):
        pages = sorted(path for folder in ("scripts", "launcher", "lib", "preload") for path in (SOURCE / folder).glob("*.[1-8]"))
        self.assertEqual(len(pages), 4)
        for page in pages:
            command = ["groff", "-man", "-ww", "-z", "-Tutf8", "-Kutf8", str(page)]
            self.assertEqual(subprocess.run(command, capture_output=True, text=True, check=False).stderr, "", page.name)


class Completions(unittest.TestCase):
    def test_every_command_and_option_is_in_each(self):
        for file, run_file in (("memlimit", "memlimit-run"), ("_memlimit", "_memlimit"), ("memlimit.fish", "memlimit-run.fish")):
            text, run_text = ((COMPLETIONS / name).read_text(encoding="utf-8") for name in (file, run_file))
            for name, options in TOLD.items():
                self.assertRegex(text, rf"\b{name}\b")
                for option in options:
                    found = rf"(?<![\w-]){option}(?![\w-])"
                    if file.endswith(".fish"):
                        found = rf"-l {option[2:]}\b" if option.startswith("--") else rf"-s {option[1:]}\b"
                    with self.subTest(file=file, command=name, option=option):
                        self.assertRegex(run_text if name == "run" else text, found)

    def offered_by_bash(self, line):
        """The words that are offered at the end of a line."""
        name = line.split()[0]
        script = f"""
            source {COMPLETIONS / name}
            line={line.replace('=', ' = ')!r}
            read -r -a COMP_WORDS <<<"$line"
            [[ $line == *' ' ]] && COMP_WORDS+=('')
            COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            compopt() {{ :; }}
            _{name.replace('-', '_')}
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        return said_by("bash", "--norc", "-c", script).split()

    def test_bash_offers_what_fits(self):
        for line, some in (
            ("memlimit ", {"ps", "exporter", "--version"}),
            ("memlimit se", {"set"}),
            ("memlimit stat redis-server ", {"status", "hooks", "openmetrics"}),
            ("memlimit stat redis-server me", {"metrics"}),
            ("memlimit set 12 ", {"512MiB", "off"}),
            ("memlimit exporter --a", {"--address"}),
            ("memlimit record --out", {"--output"}),
            ("memlimit run --acc", {"--account"}),
            ("memlimit-run --account=c", {"cgroup"}),
            ("memlimit-run --account ", {"heap", "rss", "cgroup", "auto"}),
            ("memlimit-run --adapters=", {"auto", "none", "cpython", "ruby", "beam"}),
            ("memlimit-run -l ", {"80%", "512MiB"}),
            ("memlimit-run -l 80% -- mkdi", {"mkdir"}),
        ):
            with self.subTest(line):
                offered = set(self.offered_by_bash(line))
                self.assertTrue(some <= offered, offered)
                if not line.endswith((" ", "=", "mkdi")):
                    self.assertEqual(offered, some)
        self.assertEqual(self.offered_by_bash("memlimit exporter --port "), [])

    def test_bash_leaves_the_words_of_the_command_to_files(self):
        self.assertNotIn("--limit", self.offered_by_bash("memlimit-run -l 80% -- ls --"))
        self.assertIn("/etc/passwd", self.offered_by_bash("memlimit-run -l 80% -- ls /etc/passw"))

    def test_bash_offers_processes(self):
        with tempfile.TemporaryDirectory() as directory:
            pathlib.Path(directory, "memlimit").write_text("#!/bin/sh\nprintf 'PID  USER NAME LIMIT\\n 17  root  redis  5\\n'\n")
            os.chmod(f"{directory}/memlimit", 0o755)
            os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
            try:
                self.assertEqual(self.offered_by_bash("memlimit stat "), ["17", "redis"])
                self.assertEqual(self.offered_by_bash("memlimit record --pid=1"), ["17"])
            finally:
                os.environ["PATH"] = os.environ["PATH"].split(":", 1)[1]

    @unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not installed")
    def test_shellcheck_finds_no_fault(self):
        for name in ("memlimit", "memlimit-run"):
            command = ["shellcheck", "-s", "bash", str(COMPLETIONS / name)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual((result.returncode, result.stdout), (0, ""))

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish_offers_what_fits(self):
        for line, some in (
            ("memlimit ", {"ps", "exporter"}),
            ("memlimit exporter --", {"--address", "--timeout"}),
            ("memlimit set 12 o", {"off"}),
            ("memlimit-run --account=", {"--account=heap", "--account=cgroup"}),
            ("memlimit-run --", {"--limit", "--library"}),
        ):
            name = "memlimit-run" if line.startswith("memlimit-run") else "memlimit"
            with tempfile.TemporaryDirectory() as home, self.subTest(line):
                settings = {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_DATA_HOME": home}
                command = ["fish", "--no-config", "-c", f"source {COMPLETIONS}/{name}.fish; complete -C {line!r}"]
                result = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assertTrue(some <= {offered.split("\t")[0] for offered in result.stdout.splitlines()}, result.stdout)

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh_offers_what_fits(self):
        # On a terminal of zsh's own, as a user would: the line is typed, then a key that lists what fits.
        for line, some in (
            ("memlimit ", ("ps", "exporter")),
            ("memlimit exporter --", ("--address", "--timeout")),
            ("memlimit set 12 ", ("512MiB", "off")),
            ("memlimit-run --account=", ("heap", "cgroup")),
            ("memlimit run --", ("--limit", "--library")),
        ):
            script = f"""
                zmodload zsh/zpty
                zpty shell zsh -f -i
                zpty -w shell "PROMPT=READY; fpath=({COMPLETIONS} \\$fpath); autoload -Uz compinit; compinit -D -u"
                zpty -w shell "zstyle ':completion:*' list-prompt ''; LISTMAX=0; bindkey '^D' list-choices; print -r -- DO\\NE"
                zpty -r -m shell out '*DONE*' || exit 3
                zpty -w -n shell {line!r}
                seen=''
                for i in {{1..{PATIENCE_S}}}; do
                  # A key that comes while the line is still being read may be lost: it is typed again.
                  zpty -w -n shell $'\\x04'
                  sleep 0.5
                  while zpty -r -t shell part; do seen+=$part; done
                  [[ $seen == *{some[0]}* && $seen == *{some[1]}* ]] && exit 0
                done
                print -r -- $seen
                exit 1
            """
            with self.subTest(line):
                result = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, check=False)
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
