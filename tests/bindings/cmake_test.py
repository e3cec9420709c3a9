#!/usr/bin/env python3
"""The CMake package, and pkg-config beside it: a consumer that finds the installed files, wherever they were put.

Usage: cmake_test.py SOURCE_ROOT BUILD_ROOT.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE, BUILD = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
CONSUMER = SOURCE / "tests" / "bindings" / "cmake_consumer"
RUN = str(BUILD / "scripts" / "memlimit-run")
VERSION = re.search(r"^  version: '([\w.+~-]+)',$", (SOURCE / "meson.build").read_text(encoding="utf-8"), re.M)[1]
LIMIT_BYTES = 64 << 20


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)


@unittest.skipUnless(shutil.which("cmake"), "cmake is not installed")
class Package(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="memlimit-cmake-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def install(self):
        """What `meson install` would put there, in a prefix of ours; its path."""
        prefix = self.directory / "a prefix"
        options = json.loads(run("meson", "introspect", "--buildoptions", BUILD).stdout)
        built_for = pathlib.Path(next(option["value"] for option in options if option["name"] == "prefix"))
        for source, target in json.loads(run("meson", "introspect", "--installed", BUILD).stdout).items():
            place = prefix / pathlib.Path(target).relative_to(built_for)
            if pathlib.Path(source).exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)
        return prefix

    def configure(self, prefix, **wanted):
        defines = [f"-DWANTED_{key}={value}" for key, value in wanted.items()]
        build = self.directory / "build"
        shutil.rmtree(build, ignore_errors=True)
        return run("cmake", "-S", CONSUMER, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", *defines)

    def test_a_program_is_built_with_each_target(self):
        prefix = self.install()
        result = self.configure(prefix, VERSION=VERSION, COMPONENTS="memlimit;library")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        result = run("cmake", "--build", self.directory / "build")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        program, linked = self.directory / "build" / "consumer", self.directory / "build" / "linked"
        self.assertEqual(run(program).stdout, "0 0\n")
        self.assertEqual(run(RUN, "-l", LIMIT_BYTES, program).stdout, f"1 {LIMIT_BYTES}\n")
        self.assertEqual(run(linked, env={**os.environ, "MEMLIMIT": str(LIMIT_BYTES)}).stdout, f"1 {LIMIT_BYTES}\n")
        self.assertIn("libmemlimit.so", run("readelf", "-d", linked).stdout)
        self.assertNotIn("libmemlimit.so", run("readelf", "-d", program).stdout)

    def test_what_is_not_there_is_not_found(self):
        prefix = self.install()
        for wanted, says in (
            ({"VERSION": "99.0"}, f"version: {VERSION}"),
            ({"COMPONENTS": "nonsense"}, "memlimit has no component nonsense here"),
        ):
            with self.subTest(wanted):
                result = self.configure(prefix, **wanted)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(says, result.stderr)
        next(prefix.rglob("libmemlimit.so")).unlink()
        self.assertEqual(self.configure(prefix).returncode, 0)
        self.assertIn("memlimit has no component library here", self.configure(prefix, COMPONENTS="library").stderr)

    @unittest.skipUnless(shutil.which("pkg-config") and shutil.which("gcc"), "pkg-config or gcc is not installed")
    def test_pkg_config_names_the_same(self):
        place = next(self.install().rglob("memlimit.pc")).parent
        settings = {**os.environ, "PKG_CONFIG_PATH": str(place)}
        self.assertEqual(run("pkg-config", "--modversion", "memlimit", env=settings).stdout, f"{VERSION}\n")
        flags = run("pkg-config", "--cflags", "--libs", "memlimit", env=settings).stdout.split()
        self.assertIn("-lmemlimit", flags)
        # The file names the prefix that it was made for: here only what is said besides counts.
        flags = [flag for flag in flags if not flag.startswith(("-L", "-I"))]
        library = next(self.directory.rglob("libmemlimit.so")).parent
        program = self.directory / "linked"
        folders = [f"-I{SOURCE}/lib", f"-L{library}", f"-Wl,-rpath,{library}"]
        for code in (["-fPIE", "-pie"], ["-fno-pie", "-no-pie"]):
            with self.subTest(code):
                result = run("gcc", *code, CONSUMER / "linked.c", "-o", program, *folders, *flags)
                self.assertEqual(result.returncode, 0, result.stderr)
                said = run(program, env={**os.environ, "MEMLIMIT": str(LIMIT_BYTES)}).stdout
                self.assertEqual(said, f"1 {LIMIT_BYTES}\n")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
