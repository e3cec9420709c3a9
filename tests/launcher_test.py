#!/usr/bin/env python3
"""memlimit-run: what it starts, what it refuses, and what it says.

Usage: launcher_test.py BUILD_ROOT. Runs the launcher of the build tree on small programs.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
RUN = str(BUILD / "scripts" / "memlimit-run")
TOOL = str(BUILD / "scripts" / "memlimit")
LIBRARY = str(BUILD / "preload" / "libmemlimit.so")
PLUGIN = """#include <unistd.h>
void program_says(void);
__attribute__((constructor)) static void enter(void) {
  program_says();
  (void)!write(1, "loaded\\n", 7);
}
"""
GO_NOTE = """#include <stdio.h>
#include <stdlib.h>
__attribute__((section(".note.go.buildid"), aligned(4), used)) static const struct {
  unsigned name_bytes, text_bytes, type;
  char name[4], text[8];
} note = {4, 8, 4, "Go", "1234567"};
int main(void) {
  puts(getenv("GOMEMLIMIT") ? getenv("GOMEMLIMIT") : "unset");
  puts(getenv("LD_PRELOAD"));
  return 0;
}
"""
SHOW = 'printf "%s\\n" "${LD_PRELOAD-}" "${MEMLIMIT-unset}" "${MEMLIMIT_LOG-unset}"'


def run(*arguments, **settings):
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", **settings}
    return subprocess.run(
        [RUN, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def compiled(directory, name, code, *options):
    """A program of C code; skips the test where there is no compiler."""
    if shutil.which("gcc") is None:
        raise unittest.SkipTest("no gcc")
    program = pathlib.Path(directory) / name
    program.with_suffix(".c").write_text(code, encoding="utf-8")
    subprocess.run(["gcc", *options, f"{program}.c", "-o", str(program)], check=True)
    return str(program)


class Starts(unittest.TestCase):
    def test_puts_the_library_and_the_setting_into_the_environment(self):
        result = run("-l", "512MiB", "--log=error", "--", "sh", "-c", SHOW)
        self.assertEqual(result.stdout.split("\n"), [LIBRARY, "512MiB", "error", ""])
        self.assertEqual(result.stderr, "")
        self.assertEqual(result.returncode, 0)

    def test_takes_every_way_of_writing_an_option(self):
        for arguments in (["-l", "1GiB"], ["-l1GiB"], ["--limit", "1GiB"], ["--limit=1GiB"]):
            with self.subTest(arguments):
                self.assertEqual(run(*arguments, "sh", "-c", SHOW).stdout.split("\n")[1], "1GiB")

    def test_leaves_the_commands_own_arguments_alone(self):
        result = run("-l", "1GiB", "printf", "%s|", "-l", "--help", "a b", "", "--")
        self.assertEqual(result.stdout, "-l|--help|a b||--|")

    def test_keeps_a_preload_that_is_there(self):
        libc = "/lib/x86_64-linux-gnu/libutil.so.1"
        if not os.path.exists(libc):
            self.skipTest(f"no {libc}")
        result = run("sh", "-c", SHOW, LD_PRELOAD=libc)
        self.assertEqual(result.stdout.split("\n")[0], f"{LIBRARY}:{libc}")

    def test_nested_it_loads_the_library_once(self):
        result = run("-l", "1GiB", RUN, "-l", "2GiB", "sh", "-c", SHOW)
        self.assertEqual(result.stdout.split("\n")[:2], [LIBRARY, "2GiB"])

    def test_keeps_settings_of_the_environment(self):
        self.assertEqual(run("sh", "-c", SHOW, MEMLIMIT="70%").stdout.split("\n")[1], "70%")

    def test_the_commands_status_is_its_own(self):
        self.assertEqual(run("sh", "-c", "exit 7").returncode, 7)
        self.assertEqual(run("sh", "-c", "kill -TERM $$").returncode, -15)

    def test_who_ignores_the_end_of_children_is_started_so(self):
        shown = subprocess.run(
            [RUN, "-l", "64MiB", "--", "grep", "SigIgn", "/proc/self/status"],
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
            capture_output=True, text=True, check=False,
        )
        self.assertEqual((shown.returncode, shown.stderr), (0, ""))
        self.assertTrue(int(shown.stdout.split()[1], 16) >> (signal.SIGCHLD - 1) & 1, shown.stdout)

    def test_no_process_stays_behind(self):
        result = run("sh", "-c", "echo $$; echo $PPID")
        self.assertEqual(int(result.stdout.split()[1]), os.getpid())

    def test_the_library_is_in_the_program(self):
        result = run("grep", "-c", "libmemlimit.so", "/proc/self/maps")
        self.assertGreater(int(result.stdout), 0)

    def test_a_plugin_is_loaded_into_the_program_and_nowhere_else(self):
        with tempfile.TemporaryDirectory() as name:
            # It needs a function of its program, so that nothing else can load it.
            plugin = compiled(name, "plugin", PLUGIN, "-shared", "-fPIC")
            code = "void program_says(void) {}\nint main(void) { return 7; }\n"
            program = compiled(name, "program", code, "-rdynamic")
            result = run("-l", "64MiB", "--", program, MEMLIMIT_PLUGINS=plugin)
            self.assertEqual((result.returncode, result.stdout, result.stderr), (7, "loaded\n", ""))

    def test_an_installed_tree_finds_its_own_library(self):
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name).resolve()
            (root / "bin").mkdir()
            (root / "lib" / "x86_64-linux-gnu").mkdir(parents=True)
            shutil.copy(RUN, root / "bin")
            library = root / "lib" / "x86_64-linux-gnu" / "libmemlimit.so"
            shutil.copy(LIBRARY, library)
            (root / "elsewhere").mkdir()
            (root / "elsewhere" / "run").symlink_to(root / "bin" / "memlimit-run")
            for path in (root / "bin" / "memlimit-run", root / "elsewhere" / "run"):
                result = subprocess.run([path, "sh", "-c", SHOW], capture_output=True, text=True, check=False)
                self.assertEqual(result.stdout.split("\n")[0], str(library), result.stderr)


class Scripts(unittest.TestCase):
    def script(self, directory, text):
        path = pathlib.Path(directory) / "script"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    def test_a_script_is_started_by_what_its_first_line_names(self):
        with tempfile.TemporaryDirectory() as name:
            for line in ("#!/bin/sh", "#! /bin/sh -e", "#!/usr/bin/env sh"):
                with self.subTest(line):
                    path = self.script(name, f'{line}\nprintf "%s|" "$0" "$@" "$LD_PRELOAD"\n')
                    result = run("-l", "1GiB", "--", path, "a b")
                    self.assertEqual((result.stdout, result.stderr), (f"{path}|a b|{LIBRARY}|", ""))

    def test_a_script_without_a_first_line_is_the_shells(self):
        with tempfile.TemporaryDirectory() as name:
            path = self.script(name, 'echo "$LD_PRELOAD" "$@"\n')
            result = run("-l", "1GiB", "--", path, "a")
            self.assertEqual((result.stdout, result.stderr), (f"{LIBRARY} a\n", ""))

    def test_a_script_whose_interpreter_is_missing(self):
        with tempfile.TemporaryDirectory() as name:
            result = run("--", self.script(name, "#!/no/such/interpreter\n"))
            self.assertEqual((result.returncode, result.stdout), (127, ""))
            self.assertIn("No such file", result.stderr)


class NotReached(unittest.TestCase):
    """Programs that no preload gets into are started, and that is said."""

    def test_a_static_program(self):
        with tempfile.TemporaryDirectory() as name:
            program = compiled(name, "program", "int main(void) { return 7; }\n", "-static")
            result = run("-l", "64MiB", "--", program)
            said = f"memlimit-run: {program} is a static program: the limit is for what it starts, not for itself\n"
            self.assertEqual((result.returncode, result.stderr), (7, said))

    def test_a_go_program_gets_its_own_limit(self):
        with tempfile.TemporaryDirectory() as name:
            linked = compiled(name, "linked", GO_NOTE)
            static = compiled(name, "static", GO_NOTE, "-static")
            for limit, expected in (("64MiB", str(64 << 20)), ("off", "unset")):
                with self.subTest(limit):
                    result = run("-l", limit, "--", linked)
                    self.assertEqual((result.stdout, result.stderr), (f"{expected}\n{LIBRARY}\n", ""))
            percent = run("-l", "50%", "--", linked).stdout.split("\n")[0]
            self.assertGreater(int(percent), 1 << 20)
            kept = run("-l", "64MiB", "--", linked, GOMEMLIMIT="1GiB")
            self.assertEqual(kept.stdout.split("\n")[0], "1GiB")
            alone = run("-l", "64MiB", "--", static)
            self.assertEqual(alone.stdout.split("\n")[0], str(64 << 20))
            said = f"memlimit-run: {static} is a static Go program: GOMEMLIMIT={64 << 20} holds it, without statistics\n"
            self.assertEqual(alone.stderr, said)

    def test_another_program_gets_none(self):
        self.assertEqual(run("-l", "64MiB", "sh", "-c", "echo ${GOMEMLIMIT-unset}").stdout, "unset\n")

    def test_go_itself(self):
        if shutil.which("go") is None:
            self.skipTest("no go")
        with tempfile.TemporaryDirectory() as name:
            source = pathlib.Path(name) / "main.go"
            source.write_text(
                'package main\nimport "runtime/debug"\nfunc main() { println(debug.SetMemoryLimit(-1)) }\n',
                encoding="utf-8",
            )
            environment = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": f"{name}/cache", "GO111MODULE": "off"}
            subprocess.run(["go", "build", "-o", f"{name}/main", source], env=environment, check=True, cwd=name)
            result = run("-l", "64MiB", "--", f"{name}/main")
            self.assertEqual(result.stderr.split("\n")[1], str(64 << 20))
            self.assertIn("is a static Go program", result.stderr)


class BareImage(unittest.TestCase):
    """An image with a loader, libc and one program: no shell, no /tmp, and the launcher as its first process."""

    def test_it_needs_nothing_but_what_the_program_needs(self):
        if os.geteuid() != 0:
            self.skipTest("needs root for chroot")
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            code = '#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nint main(void) {'
            code += 'printf("%d %s\\n", getpid(), getenv("MEMLIMIT")); return getenv("LD_PRELOAD") == NULL; }\n'
            program = compiled(name, "program", code)
            needed = subprocess.run(["ldd", program, LIBRARY], capture_output=True, text=True, check=True).stdout
            for path in {word for word in needed.split() if word.startswith("/") and not word.endswith(":")}:
                (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, root / path[1:])
            for path in (RUN, LIBRARY):
                shutil.copy(path, root)
            (root / "proc").mkdir()
            script = 'mount -t proc proc "$1/proc" && exec chroot "$1" /memlimit-run -l 64MiB /program'
            isolated = ["unshare", "--pid", "--fork", "--mount", "sh", "-c", script, "sh", name]
            result = subprocess.run(isolated, capture_output=True, text=True, check=False)
            if "unshare" in result.stderr or "mount" in result.stderr:
                self.skipTest(result.stderr.strip())
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "1 64MiB\n", ""))


class Refuses(unittest.TestCase):
    def refused(self, result, status, *words):
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        for word in words:
            self.assertIn(word, result.stderr)

    def test_near_misses_of_a_size_with_a_suggestion(self):
        for value, suggestion in (
            ("512MB", "did you mean 512MiB or 488MiB?"),
            ("512Mi", "did you mean 512MiB?"),
            ("512mib", "did you mean 512MiB?"),
            ("512 MiB", "did you mean 512MiB?"),
            ("0.5GiB", "did you mean 512MiB?"),
        ):
            with self.subTest(value):
                self.refused(run("-l", value, "echo", "started"), 78, f'MEMLIMIT="{value}"', suggestion)

    def test_small_numbers_without_a_unit(self):
        for value, guess in (("512", "512MiB"), ("80", "80% or 80MiB"), ("1", "1% or 1MiB")):
            with self.subTest(value):
                self.refused(
                    run("-l", value, "echo", "started"),
                    78,
                    f'memlimit-run: MEMLIMIT="{value}" is {value} byte',
                    f"did you mean {guess}? Write {value}B to mean bytes. The program is not started",
                )

    def test_what_is_no_size_at_all(self):
        for value in ("12Q", "-5MiB", "99999999TiB", "9223372036854775808", "0%", "101%", "%", "x"):
            with self.subTest(value):
                self.refused(run("-l", value, "echo", "started"), 78, "The program is not started")

    def test_a_socket_that_cannot_be_made(self):
        with tempfile.TemporaryDirectory() as name:
            missing = f"{name}/no/such.sock"
            said = f"memlimit-run: MEMLIMIT_SOCKET: {missing}: its directory does not exist; make it first."
            self.refused(run(f"--socket={missing}", "echo", "started"), 78, said, "The program is not started")
            self.assertEqual(run(f"--socket={name}/fresh/", "echo", "started").stdout, "started\n")
            taken = f"{name}/s.sock"
            with subprocess.Popen([RUN, f"--socket={taken}", "sleep", "3600"]) as process:
                while not os.path.exists(taken):
                    os.sched_yield()
                said = f"{taken} is in use by process {process.pid}; put %p, the pid, in the name."
                self.refused(run(f"--socket={taken}", "echo", "started"), 78, said)
                process.terminate()

    def test_bad_settings_of_the_environment_too(self):
        for name, value in (
            ("MEMLIMIT", "512MB"),
            ("MEMLIMIT_START", "150%"),
            ("MEMLIMIT_ACCOUNT", "everything"),
            ("MEMLIMIT_LOG", "loud"),
            ("MEMLIMIT_SOCKET_MODE", "rw"),
        ):
            with self.subTest(name):
                self.refused(run("echo", "started", **{name: value}), 78, name)

    def test_what_the_environment_says_of_strictness(self):
        # The check needs MEMLIMIT_STRICT for itself: the script, the doctor and the library must know the same words.
        words = ("", "on", "1", "yes", "true", "off", "0", "no", "false", "check", "banana", "ON", "2", "on ", "*", "che")
        bad = []
        for word in words:
            with self.subTest(word):
                settings = {"PATH": "/usr/bin:/bin", "MEMLIMIT_STRICT": word}
                plain = subprocess.run(
                    ["true"], env={**settings, "LD_PRELOAD": LIBRARY}, capture_output=True, text=True, check=False
                )
                doctor = subprocess.run(
                    ["/usr/bin/python3", TOOL, "doctor"], env=settings, capture_output=True, text=True, check=False
                )
                shown = f'MEMLIMIT_STRICT="{word}" is none of on, off and check: '
                if shown in plain.stderr:
                    bad.append(word)
                    self.refused(run("echo", "started", **settings), 78, f"memlimit-run: {shown}")
                    self.assertEqual(doctor.returncode, 1)
                    self.assertIn(shown, doctor.stdout)
                else:
                    result = run("echo", "started", **settings)
                    started = "" if word == "check" else "started\n"
                    self.assertEqual((result.returncode, result.stdout, result.stderr), (0, started, ""))
                    self.assertEqual(doctor.returncode, 0, doctor.stdout)
        self.assertEqual(bad, ["banana", "ON", "2", "on ", "*", "che"])

    def test_plugins_that_are_not_there(self):
        missing = "MEMLIMIT_PLUGINS: not loaded: /no/such.so: cannot open shared object file: No such file or directory"
        self.refused(run("echo", "started", MEMLIMIT_PLUGINS="/no/such.so"), 78, missing)
        self.refused(run("echo", "started", MEMLIMIT_PLUGINS=f"{LIBRARY}:/no/such.so"), 78, missing)
        self.refused(run("echo", "started", MEMLIMIT_PLUGINS="/tmp"), 78, "not loaded: /tmp:")
        # A bad one beside them is refused for itself.
        self.refused(run("echo", "started", MEMLIMIT_PLUGINS=f"/no/such.so:{'x' * 300}"), 78, "each with a /")

    def test_an_empty_value(self):
        self.refused(run("-l", "", "echo", "started"), 78, "-l needs a value")
        self.refused(run("-l"), 78, "-l needs a value")

    def test_unknown_options(self):
        self.refused(run("--frobnicate", "echo", "started"), 64, "--frobnicate")
        self.refused(run("-x", "echo", "started"), 64, "-x")
        self.refused(run(), 64, "no command", "Usage")

    def test_commands_that_are_not_there(self):
        self.refused(run("no-such-command"), 127, "no-such-command: command not found")
        self.refused(run("/no/such/command"), 127, "no such file")
        self.refused(run("/etc/passwd"), 126, "not executable")
        self.refused(run("/etc"), 126, "not executable")

    def test_a_library_that_cannot_be_loaded(self):
        self.refused(run("--library=/etc/passwd", "echo", "started"), 78, "cannot be loaded")
        self.refused(run("--library=/no/such.so", "echo", "started"), 78, "cannot read")

    def test_a_program_of_musl_without_the_library_for_it(self):
        with tempfile.TemporaryDirectory() as name:
            place = pathlib.Path(name).resolve()
            loader = f"-Wl,--dynamic-linker=/lib/ld-musl-{os.uname().machine}.so.1"
            program = compiled(name, "program", "int main(void) { return 0; }\n", loader)
            shutil.copy(RUN, place)
            shutil.copy(LIBRARY, place)
            result = subprocess.run([place / "memlimit-run", program], capture_output=True, text=True, check=False)
            said = f"memlimit-run: {program} is built for musl, and libmemlimit-musl.so is neither beside {place} nor installed."
            self.refused(result, 78, said, "The program is not started")

    def test_a_program_of_another_machine(self):
        with tempfile.TemporaryDirectory() as name:
            program = pathlib.Path(name) / "program"
            content = bytearray(pathlib.Path("/bin/true").read_bytes())
            content[18:20] = (0x08).to_bytes(2, "little")  # e_machine: MIPS
            program.write_bytes(content)
            program.chmod(0o755)
            self.refused(run("--", str(program)), 78, "is not for the kind of machine", "The program is not started")

    def test_a_program_that_is_cut_short_is_no_script(self):
        content = pathlib.Path("/bin/true").read_bytes()
        with tempfile.TemporaryDirectory() as name:
            program = pathlib.Path(name) / "program"
            for length in (16, 51, 52, 63, 64, 100, 120, 400):
                with self.subTest(length):
                    program.write_bytes(content[:length])
                    program.chmod(0o755)
                    self.refused(run("--", str(program)), 126, f"memlimit-run: {program}: ")
            self.assertEqual(os.listdir(name), ["program"])

    def test_a_library_whose_path_the_loader_would_split(self):
        with tempfile.TemporaryDirectory() as name:
            library = pathlib.Path(name) / "with space" / "libmemlimit.so"
            library.parent.mkdir()
            shutil.copy(LIBRARY, library)
            self.refused(run(f"--library={library}", "echo", "started"), 78, "spaces and colons")


class Accepts(unittest.TestCase):
    def test_what_gos_grammar_accepts_and_the_words(self):
        for value in ("1048576", "1B", "8388607TiB", "9223372036854775807", "0008MiB", "off", "auto", "1%", "100%"):
            with self.subTest(value):
                self.assertEqual(run("-l", value, "echo", "started").stdout, "started\n")


class Tells(unittest.TestCase):
    def test_help_and_version(self):
        self.assertIn("Usage: memlimit-run", run("--help").stdout)
        self.assertRegex(run("--version").stdout, r"^memlimit-run \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    unittest.main()
