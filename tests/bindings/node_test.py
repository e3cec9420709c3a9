#!/usr/bin/env python3
"""bindings/node in programs under the library, and without it.

Usage: node_test.py SOURCE_ROOT BUILD_ROOT.
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
BINDING = SOURCE / "bindings" / "node"
RUN = str(BUILD / "scripts" / "memlimit-run")
PATIENCE_S = 240  # for a machine that has much else to do; nothing is expected to take it
NODE = shutil.which("node")

# The socket comes up on a thread of its own: a program that needs it at once waits for it.
PRELUDE = f"""
const memlimit = require({json.dumps(str(BINDING))});
const told = (promise) => promise.then((value) => value, (error) => error.code || error.name);
const socketIsThere = async () => {{
  while (await told(memlimit.getLimit()) === 'ENOSOCKET') await new Promise((go) => setTimeout(go, 10));
}};
"""


@unittest.skipIf(NODE is None, "node is not installed")
class Node(unittest.TestCase):
    def run_node(self, code, limit="128MiB", cwd=None):
        command = [NODE, "-e", PRELUDE + "(async () => {" + code + "})();"]
        with tempfile.TemporaryDirectory(prefix="memlimit-node-") as directory:
            if limit is not None:
                command = [RUN, "-l", limit, f"--socket={directory}/%p.sock", "--", *command]
            settings = {"PATH": os.environ["PATH"], "HOME": directory, "MEMLIMIT_LOG": "error"}
            result = subprocess.run(
                command, env=settings, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        return result.stdout

    def test_a_program_without_the_library_is_told(self):
        said = self.run_node(
            "console.log(memlimit.loaded(), await told(memlimit.stats()), await told(memlimit.setLimit(5)));"
            "memlimit.onPressure(() => {})();",
            limit=None,
        )
        self.assertEqual(said, "false ENOTLOADED ENOTLOADED\n")

    def test_figures_are_read_and_the_limit_is_changed(self):
        said = self.run_node("""
            await socketIsThere();
            const block = Buffer.alloc(20000000, 1);
            const figures = await memlimit.stats();
            console.log(memlimit.loaded(), figures.limit, figures.heap_alloc > block.length, Object.keys(figures).length > 40);
            console.log(await memlimit.getLimit(), await memlimit.setLimit('100MiB'), await memlimit.setLimit(1 << 29));
            console.log(await memlimit.setLimit(0), await memlimit.getLimit(), await memlimit.setLimit('off'));
            console.log((await memlimit.read()).includes('HeapAlloc:'), (await memlimit.read('metrics')).endsWith('# EOF\\n'));
        """)
        self.assertEqual(said, f"true {128 << 20} true true\n{128 << 20} {100 << 20} {1 << 29}\n0 0 0\ntrue true\n")

    def test_what_cannot_be_is_refused(self):
        said = self.run_node("""
            await socketIsThere();
            for (const wrong of [-1, 1.5, NaN, null, '', '5 MiB', 'off\\nlimit=5MiB', '64MB', '12'])
              console.log(JSON.stringify(wrong), await told(memlimit.setLimit(wrong)));
            console.log(await told(memlimit.read('events')), await told(memlimit.read('no such')), await told(memlimit.read('none')));
            console.log(await told(memlimit.stats({ pid: 1 << 30 })), await told(memlimit.stats({ pid: -1 })));
            console.log(await told(memlimit.stats({ socket: '/nowhere' })), await memlimit.getLimit());
            try { memlimit.onPressure(5); } catch (error) { console.log(error.message); }
        """)
        self.assertEqual(
            said,
            '-1 RangeError\n1.5 RangeError\nnull RangeError\nnull TypeError\n"" TypeError\n"5 MiB" TypeError\n'
            '"off\\nlimit=5MiB" TypeError\n"64MB" EREFUSED\n"12" EREFUSED\n'
            f"TypeError TypeError EREFUSED\nESRCH TypeError\nENOENT {128 << 20}\nonPressure needs a function\n",
        )

    def test_another_process_is_read(self):
        holder = "import sys; held = bytes(20_000_000); print('ready', flush=True); sys.stdin.read()"
        with tempfile.TemporaryDirectory(prefix="memlimit-node-") as directory:
            place = f"--socket={directory}/memlimit.sock"
            command = [RUN, "-l", "77MiB", place, "/usr/bin/python3", "-I", "-c", holder]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
                self.assertEqual(other.stdout.readline(), "ready\n")
                said = self.run_node(
                    f"""
                    while (await told(memlimit.getLimit({{ pid: {other.pid} }})) === 'ENOSOCKET')
                      await new Promise((go) => setTimeout(go, 10));
                    console.log(await memlimit.getLimit({{ pid: {other.pid} }}));
                    console.log(await memlimit.setLimit('88MiB', {{ socket: '{directory}/memlimit.sock' }}));
                    """,
                    limit=None,
                )
                other.stdin.close()
        self.assertEqual(said, f"{77 << 20}\n{88 << 20}\n")

    def test_a_cache_that_hears_of_pressure_holds_the_limit(self):
        said = self.run_node("""
            await socketIsThere();
            const cache = [];
            const rounds = [];
            const stop = memlimit.onPressure((round) => {
              rounds.push(round);
              for (let freed = 0; cache.length > 0 && freed < round.wantedBytes; ) freed += cache.shift().length;
            });
            let stored = 0;
            // Four times the limit. What V8 keeps by itself is on top of it: a machine that is late may see some more.
            for (; stored < 1800; stored++) {
              cache.push(Buffer.alloc(300000, 1));
              while (cache.length > 900) await new Promise((go) => setTimeout(go, 10));
              await new Promise((go) => setImmediate(go));
            }
            stop();
            const [first] = rounds;
            console.log(cache.length <= 900, first.round > 0, rounds.some((round) => round.wantedBytes > 0), typeof first.level, first.freedBytes >= 0);
        """)
        self.assertEqual(said, "true true true string true\n")

    def test_listening_keeps_no_process_alive(self):
        said = self.run_node("await socketIsThere(); memlimit.onPressure(() => {}); console.log('ends');")
        self.assertEqual(said, "ends\n")

    @unittest.skipUnless(shutil.which("npm"), "npm is not installed")
    def test_npm_installs_it(self):
        with tempfile.TemporaryDirectory(prefix="memlimit-npm-") as directory:
            pathlib.Path(directory, "package.json").write_text("{}", encoding="utf-8")
            command = ["npm", "install", "--offline", "--no-audit", "--no-fund", "--install-links", str(BINDING)]
            settings = {**os.environ, "HOME": directory, "npm_config_cache": f"{directory}/cache"}
            result = subprocess.run(command, cwd=directory, env=settings, capture_output=True, text=True, check=False)
            self.assertEqual(result.returncode, 0, result.stderr)
            command = [NODE, "-p", "require('memlimit').loaded()"]
            said = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout
            self.assertEqual(said, "false\n")
            installed = {path.name for path in pathlib.Path(directory, "node_modules", "memlimit").iterdir()}
            self.assertEqual(installed, {"package.json", "index.js", "index.d.ts"})

    def test_the_types_declare_what_there_is(self):
        names = json.loads(subprocess.run(
            [NODE, "-p", f"JSON.stringify(Object.keys(require({json.dumps(str(BINDING))})))"],
            capture_output=True, text=True, check=True,
        ).stdout)
        declared = re.findall(r"^export function (\w+)\(", (BINDING / "index.d.ts").read_text(encoding="utf-8"), re.M)
        self.assertEqual(sorted(declared), sorted(names))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
