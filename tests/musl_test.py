#!/usr/bin/env python3
"""musl_test - the library for programs of musl: the claims of tests/preload that hold in any libc, and the launcher's choice.

usage: musl_test.py BUILD_DIR [NAME...]

Compiles the programs by musl-gcc and runs them under BUILD_DIR/preload/musl/libmemlimit-musl.so (-Dmusl=enabled). Skipped
(status 77) without that library, musl-gcc or musl's loader. A claim that does not hold in musl for a reason of musl's is
not in the list.
"""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
LIBRARY = BUILD / "preload" / "musl" / "libmemlimit-musl.so"
GLIBC_LIBRARY = BUILD / "preload" / "libmemlimit.so"
RUN = BUILD / "scripts" / "memlimit-run"
TOOL = BUILD / "scripts" / "memlimit"
FLAGS = ("-O2", "-fno-builtin", "-D_GNU_SOURCE", "-Wno-deprecated-declarations", f"-I{HERE}/support", f"-I{HERE.parent}/lib",
         f"-isystem{BUILD}/preload/musl/kernel")
PATIENCE_S = 300  # only a test that fails waits this long
SKIPPED = 77

# Settings, as preload_test.cc has them. {tmp} stands for the run's own directory.
UNSET = {}
ROOMY = {"MEMLIMIT": "64GiB"}
TIGHT = {
    "MEMLIMIT": "1MiB", "MEMLIMIT_LOG": "off", "MEMLIMIT_SOCKET": "{tmp}/%p.sock", "MEMLIMIT_PROFILE": "4KiB",
}
EVERYWHERE = (UNSET, ROOMY, TIGHT)


def limit_of(size, **more):
    return {"MEMLIMIT": size, "MEMLIMIT_LOG": "off", "MEMLIMIT_SOCKET": "off", **more}


def claims():
    """{name: (settings, modules)}"""
    found = {}

    def add(settings, names, *modules):
        for name in names.split():
            found[name] = (settings, modules)

    # malloc and its family, and that the counts are exact
    add(EVERYWHERE, """
        blocks_are_aligned_for_any_type calloc_overflow_is_enomem calloc_zeroes_reused_blocks free_null_does_nothing
        free_preserves_errno huge_alignments malloc_zero_is_unique posix_memalign_fails_as_in_glibc
        realloc_failure_keeps_block realloc_keeps_content realloc_to_zero_frees reallocarray_overflow_is_enomem
        sized_frees_release_blocks usable_size_is_writable thread_churn_keeps_the_count jemalloc_bins_add_up
        jemalloc_names_have_their_types
    """)
    # from the first constructor to the last thread, fork and signal
    add(EVERYWHERE, """
        key_destructors_allocate malloc_is_no_cancellation_point fork_child_allocates
        fork_handlers_allocate fork_in_signal_handler raw_fork_child_allocates
        address_space_runs_out closed_standard_descriptors_stay_closed closed_stderr_is_not_written_to
        no_thread_and_no_socket_can_be_made proc_is_not_needed descriptors_taken_over descriptors_closed_and_reused
        descriptor_limit_of_zero descriptors_closed_while_the_service_sleeps signals_interrupt_only_the_program
        remap_hint_reaches_the_kernel hook_registry_checks_arguments hook_remove_waits_for_the_hook
        hook_that_closes_descriptors
    """)
    add(EVERYWHERE, "fork_lets_the_loader_finish", "tls_module")
    add(EVERYWHERE, "service_starts_inside_a_constructor", "greedy_module")
    add((UNSET, TIGHT), "plugin_can_be_unloaded", "plugin_module")
    # reclaim
    add((limit_of("64MiB"),), """
        async_hook_is_asked_near_the_limit charge_is_part_of_usage hook_that_rounds_down service_thread_steps_aside
        threads_wait_near_the_limit
    """)
    add((limit_of("16MiB"),), "hook_is_no_cancellation_point interface_is_no_cancellation_point hook_that_hangs_stops_nobody")
    add((limit_of("32MiB"),), """
        freed_beyond_the_limit_goes_back forked_child_has_its_own_service inline_hook_holds_the_limit
        poll_hooks_run_in_the_event_loop oversized_request_is_granted_then_a_round_follows
    """)
    add((limit_of("8MiB"),), "hook_may_fork")
    add((limit_of("256MiB"),), "rounds_come_closer_near_the_limit")
    add((limit_of("512MiB"),), "lowering_the_limit_runs_a_round")
    add((limit_of("96MiB"),), "threads_that_sleep_keep_little")
    add((limit_of("256MiB", MEMLIMIT_ACCOUNT="rss"),), "touched_memory_opens_rounds")
    add((UNSET,), "hook_removes_itself reclaim_requests_are_all_served reclaim_returns_what_hooks_freed")
    add(({"MEMLIMIT_LOG": "off"},), "limit_can_be_set_and_read")
    return found


CLAIMS = claims()


def compiled(source, out, *options):
    subprocess.run(["musl-gcc", *FLAGS, "-o", str(out), str(source), *options], check=True, capture_output=True, text=True)
    return out


def run(words, directory, preload=LIBRARY, **settings):
    environment = {"PATH": "/usr/bin:/bin", "HOME": directory, "XDG_RUNTIME_DIR": directory, "LC_ALL": "C"}
    environment.update({name: value.replace("{tmp}", directory) for name, value in settings.items()})
    if preload is not None:
        environment["LD_PRELOAD"] = str(preload)
    return subprocess.run(
        [str(word).replace("{tmp}", directory) for word in words], env=environment, cwd=directory, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )


class Claims(unittest.TestCase):
    def check(self, name, directory):
        """What is wrong with a claim, or nothing."""
        settings, modules = CLAIMS[name]
        source = HERE / "preload" / f"{name}.c"
        program = compiled(source, directory / name, "-fPIE", "-pie", "-pthread")
        for each in settings:
            with tempfile.TemporaryDirectory() as own:
                result = run([program, *(directory / f"{module}.so" for module in modules)], own, **each)
            said = (result.stdout, result.stderr)
            if result.returncode == SKIPPED and result.stderr.startswith("skipped: "):
                continue
            if result.returncode != 0 or said != ("", ""):
                return f"{name} in {each}: status {result.returncode}, {said}"
        return ""

    def test_claims(self):
        names = NAMES or CLAIMS
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            for module in {module for claim in names for module in CLAIMS[claim][1]}:
                compiled(HERE / "preload" / f"{module}.c", directory / f"{module}.so", "-fPIC", "-shared")
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                for said in pool.map(lambda claim: self.check(claim, directory), names):
                    with self.subTest(said):
                        self.assertEqual(said, "")


SHOW = """#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char** argv) {
  if (argc > 1) return execv(argv[1], argv + 1);
  puts(getenv("LD_PRELOAD"));
  return 0;
}
"""


class Launcher(unittest.TestCase):
    """The library is chosen by the loader that the command names."""

    def setUp(self):
        if NAMES:
            self.skipTest("claims are named")
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.directory = place.name
        source = pathlib.Path(self.directory) / "show.c"
        source.write_text(SHOW, encoding="utf-8")
        self.show = compiled(source, source.with_suffix(""))

    def launch(self, *words, **settings):
        return run([RUN, "-l", "64MiB", "--", *words], self.directory, None, **settings)

    def test_each_libc_gets_its_own(self):
        result = self.launch(self.show)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, f"{LIBRARY}\n", ""))
        result = self.launch("sh", "-c", "echo $LD_PRELOAD")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, f"{GLIBC_LIBRARY}\n", ""))

    def test_started_from_the_other_libc(self):
        result = self.launch(self.show, RUN, "-l", "32MiB", "--", "/bin/sh", "-c", "echo $LD_PRELOAD")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, f"{GLIBC_LIBRARY}\n", ""))
        result = self.launch("sh", "-c", f"exec {RUN} -l 32MiB -- {self.show}")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, f"{LIBRARY}\n", ""))

    def test_a_bad_setting_is_refused(self):
        for settings, words in (
            ({"MEMLIMIT_ACCOUNT": "everything"}, 'memlimit-run: MEMLIMIT_ACCOUNT="everything"'),
            ({"MEMLIMIT_PLUGINS": "/no/such.so"}, "/no/such.so: cannot open shared object file: No such file or directory"),
        ):
            result = self.launch(self.show, **settings)
            self.assertEqual((result.returncode, result.stdout), (78, ""))
            self.assertIn(words, result.stderr)

    def test_a_servers_life(self):
        server = compiled(HERE / "images" / "server.c", pathlib.Path(self.directory) / "server")
        log = pathlib.Path(self.directory) / "log"
        words = [RUN, "-l", "64MiB", f"--socket={self.directory}/", f"--log=info:{log}", "--", server]
        with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            self.assertEqual(process.stdout.readline(), f"pid {process.pid} uid {os.getuid()} gid {os.getgid()}\n")
            shown = subprocess.run([TOOL, "stat", str(process.pid)], capture_output=True, text=True, check=False)
            self.assertEqual(shown.returncode, 0, shown.stderr)
            figures = dict(line.split(":\t", 1) for line in shown.stdout.splitlines() if ":\t" in line)
            self.assertEqual(figures["MemLimit"].split(), ["65536", "kB"])
            self.assertGreaterEqual(int(figures["HeapAlloc"].split()[0]), 32 << 10)
            process.terminate()
            out, error = process.communicate(timeout=PATIENCE_S)
            self.assertEqual((process.returncode, out, error), (7, "got 15\n", ""))
        for line in log.read_text(encoding="utf-8").splitlines():
            self.assertRegex(line, rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z memlimit\[{process.pid}\] info: ")
        self.assertIn("to=67108864 ", log.read_text(encoding="utf-8"))


def why_not():
    if not LIBRARY.exists():
        return f"{LIBRARY} is not built (-Dmusl=enabled)"
    if shutil.which("musl-gcc") is None:
        return "no musl-gcc (apt-get install musl-tools)"
    return ""


if __name__ == "__main__":
    if why_not():
        print(f"skipped: {why_not()}")
        sys.exit(SKIPPED)
    NAMES = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
