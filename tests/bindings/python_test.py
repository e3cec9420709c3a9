#!/usr/bin/env python3
"""bindings/python/memlimit.py in programs under the library, and without it.

Usage: python_test.py SOURCE_ROOT BUILD_ROOT [PYTHON...]; /usr/bin/python3 when none is named.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

SOURCE, BUILD = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
PYTHONS = [argument for argument in sys.argv[3:] if "/" in argument] or ["/usr/bin/python3"]
BINDING = SOURCE / "bindings" / "python"
RUN = str(BUILD / "scripts" / "memlimit-run")
PATIENCE_S = 240  # for a machine that has much else to do; nothing is expected to take it

sys.dont_write_bytecode = True


def environment(**settings):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MEMLIMIT", "PYTHON", "LD_"))}
    # A thread that was joined may still be about to go when os.fork() counts: of that newer Pythons warn.
    fixed = {"PYTHONPATH": str(BINDING), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    return {**kept, **fixed, "MEMLIMIT_LOG": "error", **settings}


class BindingTest(unittest.TestCase):
    def run_each(self, code, expected, limit="64MiB", says="", status=0):
        """Runs the code with each interpreter, under memlimit unless the limit is None."""
        for python in PYTHONS:
            with self.subTest(python):
                command = [python, "-c", textwrap.dedent(code)]
                if limit is not None:
                    command = [RUN, "-l", limit, "--", *command]
                result = subprocess.run(
                    command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
                )
                self.assertEqual((result.returncode, result.stdout), (status, expected), result.stderr)
                if says:
                    self.assertRegex(result.stderr, says)
                else:
                    self.assertEqual(result.stderr, "")


class WithoutTheLibrary(BindingTest):
    def test_a_program_runs_all_the_same(self):
        code = """
            import asyncio, memlimit
            print(memlimit.loaded(), memlimit.get_limit(), memlimit.stats(), memlimit.poll(), memlimit.poll_fd(), memlimit.reclaim())
            memlimit.charge(5)
            @memlimit.hook("cache")
            def drop(request):
                raise AssertionError("never called")
            with memlimit.add_hook(drop) as added:
                print(added.name)
            memlimit.start_thread()
            async def main():
                memlimit.attach()()
            asyncio.run(main())
            try:
                memlimit.set_limit(1 << 30)
            except memlimit.NotLoaded as error:
                print(error)
        """
        expected = "False 0 {} 0 -1 0\ndrop\nlibmemlimit.so is not in this process: start it with memlimit-run\n"
        self.run_each(code, expected, limit=None)


class Figures(BindingTest):
    def test_they_are_those_of_the_header(self):
        header = (SOURCE / "lib" / "memlimit.h").read_text(encoding="utf-8")
        fields = re.findall(r"int64_t (\w+);", header.split("struct memlimit_stats {", 1)[1].split("};", 1)[0])
        self.assertGreater(len(fields), 40)
        code = f"import memlimit; print(memlimit.FIGURES == {fields!r}, list(memlimit.stats()) == {fields!r})"
        self.run_each(code, "True True\n")

    def test_the_structures_are_those_of_the_header(self):
        if shutil.which("gcc") is None:
            self.skipTest("no gcc")
        shown = [("struct memlimit_request", "_Request"), ("struct memlimit_hook", "_Hook"), ("struct memlimit_stats", "_Stats")]
        with tempfile.TemporaryDirectory() as directory:
            program = f"{directory}/sizes"
            lines = "".join(f'printf("%zu\\n", sizeof({name}));' for name, _ in shown)
            source = f"#include <stdio.h>\n#include <memlimit.h>\nint main(void) {{ {lines} return 0; }}"
            command = ["gcc", "-fPIE", "-pie", f"-I{SOURCE}/lib", "-x", "c", "-", "-o", program]
            subprocess.run(command, input=source, text=True, check=True)
            expected = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        sizes = "; ".join(f"print(ctypes.sizeof(memlimit.{name}))" for _, name in shown)
        self.run_each(f"import ctypes, memlimit; {sizes}", expected)

    def test_they_are_read_and_the_limit_is_changed(self):
        code = """
            import memlimit
            print(memlimit.loaded(), memlimit.get_limit(), memlimit.set_limit(100 << 20), memlimit.get_limit())
            block = bytearray(20_000_000)
            figures = memlimit.stats()
            print(figures["limit"], figures["heap_alloc"] > 20_000_000, figures["uptime_ns"] > 0)
            before = memlimit.stats()["charged"]
            memlimit.charge(1 << 20)
            print(memlimit.stats()["charged"] - before)
            memlimit.charge(-(1 << 20))
            print(memlimit.stats()["charged"] - before, memlimit.set_limit(0), memlimit.get_limit())
            for wrong in (-1, 1 << 63, True, 1.5, "64MiB", None):
                try:
                    memlimit.set_limit(wrong)
                except (TypeError, ValueError) as error:
                    print(type(error).__name__, error)
        """
        expected = (
            f"True {64 << 20} {64 << 20} {100 << 20}\n{100 << 20} True True\n{1 << 20}\n0 {100 << 20} 0\n"
            f"ValueError -1 is not between 0 and {2**63 - 1}\nValueError {1 << 63} is not between 0 and {2**63 - 1}\n"
            "TypeError a whole number of bytes is wanted, not True\nTypeError a whole number of bytes is wanted, not 1.5\n"
            "TypeError a whole number of bytes is wanted, not '64MiB'\nTypeError a whole number of bytes is wanted, not None\n"
        )
        self.run_each(code, expected)


CACHE = """
import collections, threading, memlimit
cache, lock, asked = collections.OrderedDict(), threading.Lock(), []
def drop(request):
    asked.append(request)
    freed = 0
    with lock:
        while cache and freed < request.wanted_bytes:
            freed += len(cache.popitem(last=False)[1])
    return freed
def store(key):
    block = bytes(100_000)
    with lock:
        cache[key] = block
"""


class Hooks(BindingTest):
    def test_an_event_loop_holds_its_limit(self):
        code = CACHE + textwrap.dedent("""
            import asyncio
            memlimit.hook("cache")(drop)
            async def main():
                detach = memlimit.attach()
                for key in range(2560):  # four times the limit
                    store(key)
                    await asyncio.sleep(0)
                detach()
                first = asked[0]
                print(len(cache) < 700, first.limit_bytes == 64 << 20, first.wanted_bytes > 0, type(first.level).__name__)
                print(first.round > 0, first.deadline_ns > 0, memlimit.stats()["hook_calls"] >= len(asked) > 5)
            asyncio.run(main())
        """)
        self.run_each(code, "True True True Level\nTrue True True\n")

    def test_a_thread_of_its_own_serves_a_program_of_threads(self):
        code = CACHE + textwrap.dedent("""
            import time
            memlimit.hook(drop)
            memlimit.start_thread()
            memlimit.start_thread()
            print([thread.name for thread in threading.enumerate()])
            for key in range(2560):
                store(key)
                while len(cache) > 1200:  # as many as two limits: it is asked, or this never ends
                    time.sleep(0.001)
            print(len(asked) > 0, len(cache) <= 1200)
        """)
        self.run_each(code, "['MainThread', 'memlimit-hooks']\nTrue True\n")

    def test_the_child_of_a_fork_has_a_thread_of_its_own(self):
        code = CACHE + textwrap.dedent("""
            import os, sys, time
            memlimit.hook(drop)
            memlimit.start_thread()
            child = os.fork()
            for key in range(2560):
                store(key)
                while len(cache) > 1200:
                    time.sleep(0.001)
            if child == 0:
                os._exit(7 if asked else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(asked) > 0)
        """)
        self.run_each(code, "7 True\n")

    def test_what_a_hook_raises_poll_raises(self):
        code = """
            import memlimit
            @memlimit.hook("first")
            def first(request):
                raise ValueError("of a hook")
            for answer in (1 << 70, -5, memlimit.CANNOT_NOW, None, 3):
                first_error = None
                added = memlimit.add_hook(lambda request: answer, "second")
                memlimit.reclaim()
                try:
                    memlimit.poll()
                except ValueError as error:
                    first_error = error
                print(first_error)
                added.remove()
            added = memlimit.add_hook(lambda request: "text", "second")
            memlimit.reclaim()
            try:
                memlimit.poll()
            except ValueError as error:
                print("of a hook" in str(error) or "invalid literal" in str(error))
            def interrupted(request):
                raise KeyboardInterrupt
            added.remove()
            memlimit.reclaim()
            with memlimit.add_hook(interrupted):
                try:
                    for _ in range(100):
                        memlimit.reclaim()
                        try:
                            memlimit.poll()
                        except ValueError:
                            pass
                except KeyboardInterrupt:
                    print("interrupted")
        """
        self.run_each(code, "of a hook\n" * 5 + "True\ninterrupted\n", says="Error|KeyboardInterrupt")

    def test_a_hook_is_removed_by_itself_and_by_others(self):
        code = """
            import memlimit
            calls, before = [], memlimit.stats()["hooks"]  # the runtime's own
            def once(request):
                calls.append(memlimit.poll())
                calls.append(memlimit.reclaim())
                added.remove()
                added.remove()
                return 1
            added = memlimit.add_hook(once)
            for _ in range(3):
                memlimit.reclaim()
                memlimit.poll()
            print(calls, memlimit.stats()["hooks"] - before, memlimit._hooks)
            places = []
            try:
                for number in range(65):
                    places.append(memlimit.add_hook(once, f"{'a' * 40}ä{number}"))
            except OSError as error:
                print(len(places), error.strerror, len(memlimit._hooks))
            for place in places:
                place.remove()
            print(memlimit.stats()["hooks"] - before, memlimit._hooks)
            for wrong in ("", "a\\0b"):
                try:
                    memlimit.add_hook(once, wrong)
                except ValueError as error:
                    print(error)
            try:
                memlimit.add_hook(5, "five")
            except TypeError as error:
                print(error)
        """
        expected = (
            "[0, 0] 0 {}\n64 No space left on device 64\n0 {}\n'' is not a name of a hook\n'a\\x00b' is not a name of a hook\n"
            "5 cannot be called\n"
        )
        self.run_each(code, expected)

    def test_a_module_that_is_loaded_anew_keeps_its_hooks(self):
        code = """
            import gc, importlib, sys, memlimit
            calls = []
            added = memlimit.add_hook(lambda request: calls.append("old"))
            importlib.reload(memlimit)
            memlimit.add_hook(lambda request: calls.append("new"), "new")
            gc.collect()
            memlimit.reclaim()
            memlimit.poll()
            print(sorted(calls))
            del sys.modules["memlimit"], memlimit
            added = None
            gc.collect()
            import memlimit
            memlimit.reclaim()
            memlimit.poll()
            print("alive")
        """
        for python in PYTHONS:
            with self.subTest(python):
                command = [RUN, "-l", "64MiB", "--", python, "-c", textwrap.dedent(code)]
                result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
                self.assertEqual((result.returncode, result.stdout), (0, "['new', 'old']\nalive\n"), result.stderr)

    def test_a_sub_interpreter_has_none(self):
        code = """
            import sys
            try:
                import _interpreters as interpreters
            except ImportError:
                import _xxsubinterpreters as interpreters
            text = '''
            import memlimit
            assert memlimit.loaded() and memlimit.get_limit() == 64 << 20
            try:
                memlimit.add_hook(lambda request: 0, "none")
            except RuntimeError as error:
                print(error, flush=True)
            '''
            import textwrap
            interpreters.run_string(interpreters.create(), textwrap.dedent(text))
        """
        for python in PYTHONS:
            with self.subTest(python):
                command = [RUN, "-l", "64MiB", "--", python, "-W", "ignore", "-c", textwrap.dedent(code)]
                result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
                if "ctypes" in result.stderr and "subinterpreters" in result.stderr:
                    continue  # this Python keeps ctypes out of them itself
                said = "a sub-interpreter can have no hooks: callbacks run in the main one\n"
                self.assertEqual((result.returncode, result.stdout), (0, said), result.stderr)


class Readme(BindingTest):
    EXAMPLE = re.search(r"```python\n(.*?)```", (SOURCE / "bindings" / "README.md").read_text(encoding="utf-8"), re.S)[1]

    def test_the_example_runs_without_the_library(self):
        self.run_each(self.EXAMPLE, "2560 of 2560 are cached, 0 calls\n", limit=None)

    def test_the_example_gives_back(self):
        # On a busy machine the limit may be passed for a moment before the loop is woken; but not all of it stays.
        for python in PYTHONS:
            command = [RUN, "-l", "64MiB", "--", python, "-c", self.EXAMPLE]
            result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            cached, calls = map(int, re.fullmatch(r"(\d+) of 2560 are cached, (\d+) calls\n", result.stdout).groups())
            self.assertLess(cached, 2560)
            self.assertGreater(calls, 0)


class End(BindingTest):
    def test_a_hook_that_runs_is_waited_for(self):
        code = """
            import threading, time, memlimit
            began = threading.Event()
            @memlimit.hook("slow")
            def slow(request):
                began.set()
                for _ in range(20):
                    time.sleep(0.01)
                print("done", flush=True)
                return 0
            memlimit.start_thread()
            memlimit.reclaim()
            began.wait()
        """
        self.run_each(code, "done\n")

    def test_one_that_hangs_does_not_keep_the_program(self):
        code = """
            import threading, memlimit
            began, never = threading.Event(), threading.Event()
            @memlimit.hook("hangs")
            def hangs(request):
                began.set()
                never.wait()
            memlimit.start_thread()
            memlimit.reclaim()
            began.wait()
            print("ends")
        """
        self.run_each(code, "ends\n")

    def test_none_is_called_after_it(self):
        # Handlers run in the reverse order: this one comes after the module's.
        code = """
            import atexit
            def last():
                memlimit.reclaim()
                print(memlimit.poll(), memlimit.stats()["hooks"] - before)
            atexit.register(last)
            import memlimit
            before = memlimit.stats()["hooks"]  # the runtime's own
            memlimit.add_hook(lambda request: print("called"), "late")
        """
        self.run_each(code, "0 0\n")

    def test_threads_that_allocate_until_the_end(self):
        code = CACHE + textwrap.dedent("""
            memlimit.hook(drop)
            memlimit.start_thread()
            def fill():
                key = 0
                while True:
                    store((threading.get_ident(), key))
                    key += 1
            for _ in range(3):
                threading.Thread(target=fill, daemon=True).start()
            while len(asked) < 20:
                threading.Event().wait(0.01)
            print("ends", flush=True)
        """)
        for _ in range(5):
            self.run_each(code, "ends\n")


@unittest.skipUnless(shutil.which("mypy"), "mypy is not installed")
class Types(unittest.TestCase):
    def test_they_are_strict(self):
        with tempfile.TemporaryDirectory() as cache:
            command = ["mypy", "--strict", "--python-version", "3.9", f"--cache-dir={cache}", str(BINDING / "memlimit.py")]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + [argument for argument in sys.argv[3:] if "/" not in argument])
