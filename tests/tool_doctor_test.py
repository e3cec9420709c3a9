#!/usr/bin/env python3
"""`memlimit doctor`: before a program starts, of a running process, and each check by itself.

Usage: tool_doctor_test.py BUILD_ROOT.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import unittest.mock

from tool_support import BUILD, FORGET, HOLDER, NOBODY, build_plugin, hold_more, holder, quiet, stopped, tool

from memlimit_cli import doctor, findings, processes, snapshot, startup  # noqa: E402


MIB = 1 << 20


class Starts(unittest.TestCase):
    def test_doctor_is_content_with_a_plain_program(self):
        result = tool("doctor", "--", "/usr/bin/python3")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("dynamically linked", result.stdout)

    def test_doctor_names_a_bad_setting(self):
        result = tool("doctor", MEMLIMIT="512MB")
        self.assertEqual(result.returncode, 1)
        self.assertIn("did you mean 512MiB", result.stdout)

    def test_doctor_knows_a_static_program(self):
        with tempfile.TemporaryDirectory() as name:
            source, program = f"{name}/p.c", f"{name}/p"
            pathlib.Path(source).write_text("int main(void) { return 0; }\n", encoding="utf-8")
            built = subprocess.run(["gcc", "-static", source, "-o", program], capture_output=True, check=False)
            if built.returncode:
                self.skipTest("no static C library")
            result = tool("doctor", "--", program)
            self.assertEqual(result.returncode, 1)
            self.assertIn("statically linked", result.stdout)

    def test_doctor_follows_a_script_to_its_interpreter(self):
        with tempfile.TemporaryDirectory() as name:
            script = pathlib.Path(name) / "script"
            script.write_text("#!/usr/bin/env -S python3 -I\n", encoding="utf-8")
            script.chmod(0o755)
            result = tool("doctor", "--", str(script))
            self.assertIn("a script; what counts is python3", result.stdout)

    def test_doctor_warns_of_an_allocator_that_comes_first(self):
        library = str(BUILD / "preload" / "libmemlimit.so")
        result = tool("doctor", LD_PRELOAD=f"/nonexistent/libjemalloc.so.2:{library}")
        self.assertEqual(result.returncode, 1)
        self.assertIn("libjemalloc.so.2 comes before", result.stdout)

    def test_doctor_knows_a_program_with_a_malloc_of_its_own(self):
        result = tool("doctor", "--", str(BUILD / "tests" / "preload" / "preload_program_malloc_wins"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("has a malloc of its own", result.stdout)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to make a program of another user")
    def test_doctor_knows_a_set_user_id_program(self):
        with tempfile.TemporaryDirectory() as name:
            program = shutil.copy("/bin/true", f"{name}/true")
            os.chown(program, NOBODY, NOBODY)
            os.chmod(program, 0o4755)
            result = tool("doctor", "--", program)
            self.assertEqual(result.returncode, 1)
            self.assertIn("set-user-ID: for such programs the loader ignores LD_PRELOAD", result.stdout)

    def test_doctor_misses_libmimalloc(self):
        with tempfile.TemporaryDirectory() as name:
            shutil.copytree(BUILD / "scripts", f"{name}/scripts")
            os.mkdir(f"{name}/preload")
            # The same library, asking for a libmimalloc that is nowhere.
            library = (BUILD / "preload" / "libmemlimit.so").read_bytes()
            self.assertIn(b"libmimalloc.so", library)
            pathlib.Path(name, "preload", "libmemlimit.so").write_bytes(library.replace(b"libmimalloc.so", b"libmimalloc.no"))
            result = subprocess.run(
                ["/usr/bin/python3", f"{name}/scripts/memlimit", "doctor"], capture_output=True, text=True, check=False
            )
            self.assertEqual(result.returncode, 1)
            self.assertIn("libmimalloc is missing: apt install", result.stdout)

    def test_doctor_shows_settings_on_one_line(self):
        with tempfile.TemporaryDirectory() as name:
            with holder(MEMLIMIT_LOG=f"warn:{name}/a\nbad   \x1b[2J") as process:
                result = tool("doctor", "-p", str(process.pid))
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertIn(f"MEMLIMIT_LOG=warn:{name}/a?bad   ?[2J", result.stdout)

    def test_doctor_asks_a_process_that_overwrote_its_environment(self):
        with holder(limit="64MiB", first=FORGET, MEMLIMIT_START="40%") as process:
            result = tool("doctor", "-p", str(process.pid))
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertRegex(result.stdout, r"settings: MEMLIMIT=64MiB .*MEMLIMIT_START=40%")
            self.assertNotIn("no MEMLIMIT variable", result.stdout)

    def test_doctor_names_a_bad_setting_that_was_overwritten(self):
        command = ["/usr/bin/python3", "-I", "-c", FORGET + HOLDER]
        settings = {"LD_PRELOAD": str(BUILD / "preload" / "libmemlimit.so"), "MEMLIMIT": "64MB", "MEMLIMIT_REPORT": "1000"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env={"PATH": "/usr/bin:/bin", **settings}, **pipes) as process:
            process.stdout.readline()
            while processes.find_pid(process.pid).address is None:
                os.sched_yield()
            result = tool("doctor", "-p", str(process.pid))
            process.communicate()
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stdout, "CRITICAL +MEMLIMIT=64MB is a bad setting")

    def test_doctor_takes_the_socket_of_a_running_process_for_good(self):
        with tempfile.TemporaryDirectory() as name, holder(socket=f"{name}/s") as process:
            result = tool("doctor", "-p", str(process.pid))
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertIn(f"MEMLIMIT_SOCKET={name}/s", result.stdout)

    def test_doctor_says_when_settings_cannot_be_seen(self):
        with holder(socket="off", first=FORGET) as process:
            result = tool("doctor", "-p", str(process.pid))
            self.assertIn("its settings cannot be seen: it wrote over its environment", result.stdout)
            self.assertNotIn("no MEMLIMIT variable", result.stdout)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to become another user")
    def test_doctor_tries_out_no_file_that_another_user_names(self):
        settings = {
            "MEMLIMIT": "1B",  # as tight as can be, so that a service would start at once
            "MEMLIMIT_START": "40%",
            "MEMLIMIT_PLUGINS": "PLUGIN",
            "MEMLIMIT_SOCKET": "DIR/socket",
            "MEMLIMIT_LOG": "debug:DIR/log",
        }
        tried = []

        def probe(library, environment):
            tried.append(environment)
            return 0, ""

        with tempfile.TemporaryDirectory() as name:
            plugin = build_plugin(name)
            settings = {key: value.replace("DIR", name).replace("PLUGIN", plugin) for key, value in settings.items()}
            for user, said in ((NOBODY, True), (None, False)):
                with subprocess.Popen(["/bin/sleep", "1000"], env=settings, user=user, cwd="/") as process:
                    try:
                        while not pathlib.Path(f"/proc/{process.pid}/environ").read_bytes().startswith(b"MEMLIMIT="):
                            os.sched_yield()
                        result = tool("doctor", "-p", str(process.pid))
                        with unittest.mock.patch.object(startup, "probe", probe), quiet():
                            doctor.doctor(process.pid, [])
                    finally:
                        process.kill()
                self.assertEqual(sorted(os.listdir(name)), ["plugin.c", "plugin.so"])
                self.assertIn("MEMLIMIT_START=40%", result.stdout, result.stderr)
                self.assertEqual("files are not looked for on behalf of another user" in result.stdout, said, result.stdout)
        # Each time the library is tried by itself first.
        self.assertEqual(len(tried), 4)
        plain = {key: settings[key] for key in ("MEMLIMIT", "MEMLIMIT_START")}
        self.assertEqual(tried[1], {"PATH": "/usr/bin:/bin", "MEMLIMIT_LOG": "debug", **plain})
        self.assertEqual(tried[3], {"PATH": "/usr/bin:/bin", **settings})

    def test_doctor_on_a_running_process(self):
        with holder() as process:
            self.assertEqual(tool("doctor", "-p", str(process.pid)).returncode, 0)
        result = tool("doctor", "-p", str(os.getpid()))
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stdout, "CRITICAL .*without LD_PRELOAD")


def taken(stat=(), status=(), hooks=(), **more):
    """A snapshot of a process in some state; what is not said is well."""
    figures = {"limit": 64 * MIB, "paced": 10 * MIB, "heap_alloc": 10 * MIB, "rss_anon": 12 * MIB, "level": 0, "uptime_ns": 10**11}
    files = {"stat": figures | dict(stat), "status": {"Account": "heap", "Limiter": "off"} | dict(status), "hooks": list(hooks)}
    files |= more.pop("files", {})
    return snapshot.Snapshot(7, "server", files=files, **{"host_total": 100 * MIB, "host_available": 50 * MIB} | more)


def hook(name="cache", **more):
    row = {"name": name, "context": "async", "calls": 5, "skips": 0, "freed": MIB, "us": 100, "backoff": 0, "last": MIB, "overruns": 0}
    return row | {"running_us": None} | more


OVER = {"paced": 157 * MIB, "heap_alloc": 150 * MIB, "level": 3}
LET_GO = OVER | {"limiter_on": 1, "limiter_needed": 157 * MIB}
NOT_ENOUGH = {"Limiter": "on (not enough can be given back: 160768 kB remain)"}


class Checks(unittest.TestCase):
    """Each by itself, on states that are hard to bring about."""

    def found(self, *given, **more):
        return findings.examine(taken(*given, **more))

    def one(self, found, words):
        """The finding that says so."""
        (finding,) = [finding for finding in found if words in finding.text]
        return finding

    def none(self, found, words):
        self.assertEqual([finding for finding in found if words in finding.text], [])

    def test_a_process_that_is_well(self):
        found = self.found(hooks=[hook()])
        self.assertEqual(findings.verdict(found), "ok", found)
        self.assertIn("below its limit: 10 MiB of 64 MiB (16%)", self.one(found, "below its limit").text)

    def test_a_limit_that_is_let_go_is_critical_and_stands_first(self):
        found = self.found(LET_GO, NOT_ENOUGH, [hook(freed=0, backoff=9)])
        self.assertEqual((found[0].severity, found[0].about), ("critical", "limiter"))
        self.assertIn("memlimit set 7 173MiB", found[0].remedy)
        self.assertIn("157 MiB of 64 MiB (245%)", found[1].text)
        self.assertEqual(findings.verdict(found), "critical")

    def test_a_limit_that_is_let_go_for_time(self):
        told = {"Limiter": "on (reclaim took more than half of the CPU time)"}
        finding = self.one(self.found(LET_GO | {"reclaim_cpu_ns": 3 * 10**9}, told), "more than half of the CPU time")
        self.assertEqual(finding.severity, "critical")
        self.assertIn("3.0 s of reclaim", finding.cause)

    def test_a_little_over_for_a_moment_is_a_warning(self):
        self.assertEqual(self.one(self.found({"paced": 65 * MIB, "level": 3}), "over its limit").severity, "warning")
        self.assertEqual(self.one(self.found({"paced": 63 * MIB, "level": 2}), "at its limit").severity, "warning")

    def test_what_exceeds_when_it_is_not_the_heap(self):
        found = self.found(OVER | {"heap_alloc": 20 * MIB, "rss_anon": 157 * MIB}, {"Account": "rss"})
        self.assertIn("The footprint exceeds the heap", self.one(found, "over its limit").cause)
        found = self.found(OVER | {"heap_alloc": 20 * MIB, "cgroup_used": 157 * MIB}, {"Account": "cgroup"})
        self.assertIn("other processes of the cgroup", self.one(found, "over its limit").cause)

    def test_the_room_of_the_container(self):
        def room(limit, used, kills=0):
            return self.found(room=snapshot.Room("/c", limit * MIB, used * MIB, kills))

        self.assertEqual(self.one(room(100, 50), "are left in its cgroup").severity, "ok")
        self.assertEqual(self.one(room(100, 92), "nearly full").severity, "warning")
        self.assertEqual(self.one(room(100, 98), "nearly full").severity, "critical")
        self.assertEqual(self.one(room(60, 20), "the kernel kills first").severity, "critical")
        self.assertEqual(self.one(room(65, 20), "leaves 1 MiB of the container").severity, "warning")
        self.assertIn("has killed 2 processes", self.one(room(100, 50, 2), "has killed").text)

    def test_the_room_of_the_machine(self):
        self.assertEqual(self.one(self.found(host_available=2 * MIB), "the machine is nearly full").severity, "critical")
        self.assertEqual(self.one(self.found(host_available=6 * MIB), "the machine is nearly full").severity, "warning")

    def test_sites_of_the_heap_profile(self):
        largest = ((6 * MIB, ("site", "b", "c", "d", "main")), (MIB, ("other", "main")))
        finding = self.one(self.found(sites=largest), "the heap profile has the most of it at")
        self.assertIn("6 MiB (60%) by site < b < c < d ...; 1 MiB (10%) by other < main", finding.text)
        self.assertIn("memlimit heap 7", finding.remedy)
        off = self.one(self.found({"paced": 63 * MIB, "profile_interval": 0}), "who allocates is not known")
        self.assertIn("memlimit heap 7 --start", off.remedy)
        for stat in ({"profile_interval": 0}, {"paced": 63 * MIB}, {"paced": 63 * MIB, "profile_interval": 4096}):
            self.assertFalse([finding for finding in self.found(stat) if finding.about == "sites"])

    def test_hooks(self):
        self.assertEqual(self.one(self.found(), "no hook and no runtime").severity, "note")
        found = self.found(LET_GO, NOT_ENOUGH | {"NotAsked": "lua (no adapter: use its own limit)"})
        self.assertEqual(self.one(found, "no hook and no runtime").severity, "warning")
        self.assertEqual(self.one(found, "lua is in the process, and no round asks it").cause, "no adapter: use its own limit")
        for given, words, severity in (
            ({"running_us": 12_000_000}, "has been running for 12 s", "critical"),
            ({"running_us": 3000}, "is running, for 3 ms so far", "note"),
            ({"overruns": 3}, "past its deadline 3 times in 5 calls", "warning"),
            ({"us": 2_000_000}, "takes 400 ms a call", "warning"),
            ({"freed": 0, "last": 0}, "has freed nothing in 5 calls", "note"),
            ({}, "freed 1 MiB in 5 calls", "ok"),
        ):
            self.assertEqual(self.one(self.found(hooks=[hook(**given)]), words).severity, severity, words)
        found = self.found(LET_GO, NOT_ENOUGH, [hook(freed=0, backoff=9)])
        self.assertEqual(self.one(found, "has freed nothing in 5 calls, and is backed off (step 9)").severity, "warning")
        self.assertEqual(self.one(self.found(LET_GO, NOT_ENOUGH, [hook(backoff=9)]), "is backed off").severity, "note")
        self.none(self.found(hooks=[hook(calls=0, freed=0)]), "has freed nothing")

    def test_runtimes(self):
        self.assertEqual(self.one(self.found(hooks=[hook("cpython")], runtimes=("cpython",)), "cpython is attached").severity, "ok")
        self.assertEqual(self.one(self.found(runtimes=("v8",)), "v8 is in the process, and is not attached").severity, "note")
        self.assertEqual(self.one(self.found(OVER, runtimes=("v8",)), "is not attached").severity, "warning")
        found = self.found(OVER, {"NotAsked": "beam (used only where MEMLIMIT_ADAPTERS names it)"}, runtimes=("beam",))
        self.assertIn("MEMLIMIT_ADAPTERS=beam", self.one(found, "no round asks it").remedy)

    def test_memory(self):
        for given, words in (
            ({"held_idle": 100 * MIB, "rss_anon": 200 * MIB}, "100 MiB of 200 MiB of RSS are pages that no live block uses"),
            ({"heap_cached": 20 * MIB}, "threads keep 20 MiB of free blocks"),
            ({"mapped": 30 * MIB}, "has mapped 30 MiB itself"),
            ({"reclaim_cpu_ns": 3 * 10**10}, "reclaim has taken 30% of one core"),
            ({"assists": 3, "assist_ns": 10**9, "assist_max_ns": 10**6}, "threads waited for rounds 3 times, 1 s in all, 1 ms at most"),
        ):
            self.one(self.found(given), words)
            self.none(self.found(), words)
        self.assertEqual(self.one(self.found(kernel={"VmSwap": 9 * MIB}), "in swap").severity, "warning")

    def test_what_holds_the_memory_by_class_and_thread(self):
        classes = [
            {"class": "block-64", "block": 64, "live": 16384, "live_bytes": MIB},
            {"class": "large", "block": None, "live": 100, "live_bytes": 9 * MIB},
            {"class": "slices", "block": 65536, "live": None, "live_bytes": None},
        ]
        threads = [
            {"thread": "thread-9", "held_bytes": 8 * MIB, "cached_bytes": 0, "live_bytes": 8 * MIB},
            {"thread": "others", "held_bytes": 2 * MIB, "cached_bytes": 0, "live_bytes": 2 * MIB},
            {"thread": "thread-8", "held_bytes": 1, "cached_bytes": 9, "live_bytes": -8},
        ]
        found = self.found(files={"heap": {"classes": classes, "threads": threads}}, thread_names={9: "worker"})
        self.assertIn(
            "10 MiB: 100 blocks of 32 KiB to 4 MiB 9 MiB (90%), 16,384 blocks of 64 bytes 1 MiB (10%)", self.one(found, "what holds").text
        )
        self.assertIn("thread-9 worker 8 MiB (80%), others 2 MiB (20%)", self.one(found, "by the thread").text)

    def test_settings_that_are_not_in_force(self):
        rows = [{"name": "MEMLIMIT", "value": "off", "source": "invalid", "given": "64MB"}]
        found = self.found({"limit": 0}, {"MemLimit": "off (the setting is invalid)"}, files={"config": rows})
        self.assertEqual(self.one(found, "MEMLIMIT=64MB is a bad setting").severity, "critical")
        self.assertIn("memlimit set 7", self.one(self.found({"limit": 0}), "no limit is set").remedy)

    def test_who_cannot_be_asked(self):
        found = findings.examine(snapshot.Snapshot(7, "server", problem="no answer within 3 s: it is stopped", kernel={"RssAnon": MIB}))
        self.assertEqual((found[0].severity, findings.STATUS[findings.verdict(found)]), ("unknown", 3))
        self.assertIn("kill -CONT 7", found[0].remedy)
        small = findings.examine(snapshot.Snapshot(7, "server", problem="it has no statistics socket: it is small", small=True))
        self.assertEqual(findings.verdict(small), "ok")

    def test_every_bad_finding_has_a_remedy(self):
        worst = self.found(LET_GO | {"held_idle": 100 * MIB, "reclaim_cpu_ns": 9 * 10**10}, NOT_ENOUGH, [hook(freed=0, running_us=10**7, overruns=1)],
                           room=snapshot.Room("/c", 50 * MIB, 50 * MIB, 1), kernel={"VmSwap": 99 * MIB}, runtimes=("v8",))
        bad = [finding for finding in worst if finding.severity in ("critical", "warning")]
        self.assertGreater(len(bad), 8)
        self.assertEqual([finding for finding in bad if not (finding.cause and finding.remedy)], [])
        self.assertEqual([finding.severity for finding in worst], sorted((f.severity for f in worst), key=findings.ORDER.index))

    def test_a_check_needs_no_figures(self):
        # Of a library that is older, or an answer that was cut.
        for files in ({}, {"stat": {}}, {"stat": {"limit": 1}}, {"hooks": [{"name": "a"}]}):
            findings.examine(snapshot.Snapshot(7, "server", files=files))


class Asks(unittest.TestCase):
    """A running process."""

    def test_one_that_is_over_its_limit_is_critical(self):
        with holder() as process:
            hold_more(process, 1400)
            while not processes.find_pid(process.pid).stat()["limiter_on"]:
                os.sched_yield()
            result = tool("doctor", "-p", str(process.pid))
            self.assertEqual(result.returncode, 2, result.stdout)
            lines = result.stdout.splitlines()
            self.assertRegex(lines[0], rf"^{process.pid} python3 \(.*\): \d critical")
            self.assertRegex(lines[2], r"^CRITICAL  the limit of 64 MiB is let go")
            self.assertRegex(result.stdout, r"remedy: memlimit set \d+ \d+MiB")
            self.assertRegex(result.stdout, r"what holds the heap of .*blocks of 32 KiB to 4 MiB")
            told = json.loads(tool("doctor", "-p", str(process.pid), "--json").stdout)
            self.assertEqual((told["verdict"], told["status"], told["figures"]["limit"]), ("critical", 2, 64 * MIB))
            # What it recommends helps.
            limit = next(f["remedy"] for f in told["findings"] if f["about"] == "limiter").split()[3]
            self.assertEqual(tool("set", str(process.pid), limit).returncode, 0)
            while processes.find_pid(process.pid).stat()["limiter_on"]:
                os.sched_yield()
            self.assertIn(tool("doctor", "-p", str(process.pid)).returncode, (0, 1))

    def test_one_that_is_well(self):
        with holder(limit="512MiB") as process:
            result = tool("doctor", "-p", str(process.pid))
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertIn("cpython is attached", result.stdout)

    def test_one_that_is_stopped_cannot_be_asked(self):
        with holder() as process, stopped(process):
            result = tool("doctor", "-p", str(process.pid))
        self.assertEqual(result.returncode, 3, result.stdout)
        self.assertRegex(result.stdout, r"UNKNOWN +cannot be asked: no answer within 3 s: it is stopped")

    def test_one_that_is_not_there(self):
        result = tool("doctor", "-p", "4194305")
        self.assertEqual((result.returncode, result.stdout), (3, ""))
        self.assertIn("no process 4194305", result.stderr)
        self.assertEqual(tool("doctor", "-p", "no-such-name").returncode, 3)
        self.assertEqual(tool("doctor", "--no-such-option").returncode, 64)

    def test_a_hook_that_blocks_is_named(self):
        block = """
import ctypes, threading
library = ctypes.CDLL(None)
CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
block = CALL(lambda request, arg: threading.Event().wait(1000) or 0)
class Hook(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("name", ctypes.c_char_p), ("context", ctypes.c_int), ("reclaim", CALL), ("arg", ctypes.c_void_p)]
hook, number = Hook(ctypes.sizeof(Hook), b"blocks", 0, block, None), ctypes.c_uint64()
assert library.memlimit_hook_add(ctypes.byref(hook), ctypes.byref(number)) == 0
"""
        with holder(first=block) as process:
            hold_more(process, 1400)
            process_ = processes.find_pid(process.pid)
            while process_.stat().get("hook_running_ns", 0) < 2 * 10**9:
                os.sched_yield()
            result = tool("doctor", "-p", str(process.pid))
            process.kill()
        self.assertEqual(result.returncode, 2, result.stdout)
        self.assertRegex(result.stdout, r"CRITICAL +the hook blocks has been running for")


class Archive(unittest.TestCase):
    def test_it_looks_beside_itself(self):
        with tempfile.TemporaryDirectory() as name:
            shutil.copytree(BUILD / "scripts" / "memlimit_cli", f"{name}/memlimit_cli")
            for file in (BUILD / "scripts" / "memlimit", BUILD / "preload" / "libmemlimit.so"):
                shutil.copy(file, name)
            result = subprocess.run(
                ["/usr/bin/python3", f"{name}/memlimit", "doctor"], capture_output=True, text=True, check=False,
                env={"PATH": "/usr/bin:/bin"}, cwd="/",
            )
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            self.assertIn(f"{os.path.realpath(name)}/libmemlimit.so loads", result.stdout)

    def test_a_program_is_called_by_its_own_name(self):
        with tempfile.TemporaryDirectory() as name:
            shutil.copy("/bin/true", f"{name}/one-of-several")
            os.symlink("one-of-several", f"{name}/server")
            result = tool("doctor", "--", f"{name}/server")
            self.assertIn(f"{name}/server (which is {os.path.realpath(name)}/one-of-several): dynamically linked", result.stdout)


if __name__ == "__main__":
    unittest.main()
