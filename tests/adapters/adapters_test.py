"""Language runtimes and other unmodified programs under a limit: what each adapter gives back, and what it
leaves alone.

usage: adapters_test.py BUILD_DIR [CASE...]

Programs are given here, or lie in ../containers and ../plugin. Each is run to its end; what happened is in
its log. A case whose program is not installed is left out and said so.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
CONTAINERS = HERE.parent / 'containers'
# Programs of another version than Debian's: by hand, where one is installed.
PATH = ':'.join([*filter(None, [os.environ.get('MEMLIMIT_TEST_PROGRAMS')]), '/usr/local/bin:/usr/bin:/bin'])
PYTHON = '/usr/bin/python3'
PATIENCE_S = 240  # only a program that hangs runs this long

# Says how much the program ever held; /proc counts exactly, getrusage what exec left behind, too.
PEAK = '''
def peak_mib():
    with open('/proc/self/status') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('VmHWM')) // 1024
'''

CYCLES = PEAK + '''
import gc, sys
gc.disable()
class Node:
    pass
for i in range(100_000):
    node = Node()
    node.me = node
    node.text = bytes(4000)
assert not gc.isenabled()
print(peak_mib())
'''


class LeftOut(Exception):
    pass


@dataclasses.dataclass
class Ended:
    status: int
    output: str
    errors: str
    log: str

    def adapter(self, name):
        """(times it ran, bytes it freed), by the log."""
        freed = [int(match[1]) for match in
                 re.finditer(rf'event=adapter_ran .*adapter={name} .*freed=(-?\d+)', self.log)]
        return len(freed), sum(freed)

    def attached(self, name):
        return re.search(rf'event=adapter_attached .*adapter={name}$', self.log, re.M) is not None


class Bench:
    """Runs programs under the library, in a directory of their own."""

    def __init__(self, build, directory):
        self.build, self.directory = build, directory

    def run(self, command, limit='64MiB', **settings):
        if shutil.which(command[0], path=PATH) is None:
            raise LeftOut(f'no {command[0]}')
        log = self.directory / 'log'
        log.unlink(missing_ok=True)
        environment = {'PATH': PATH, 'LC_ALL': 'C.UTF-8', 'PYTHONDONTWRITEBYTECODE': '1',
                       'LD_PRELOAD': self.build / 'preload' / 'libmemlimit.so', 'MEMLIMIT': limit,
                       'MEMLIMIT_LOG': f'debug:{log}', 'MEMLIMIT_SOCKET': 'off', **settings}
        with open(self.directory / 'out', 'w+') as out, open(self.directory / 'err', 'w+') as err:
            process = subprocess.Popen([str(word) for word in command], env=environment, cwd=self.directory,
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       start_new_session=True)
            try:
                status = process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise AssertionError(f'{command} still runs after {PATIENCE_S} s') from None
            for file in (out, err):
                file.seek(0)
            return Ended(status, out.read(), err.read(), log.read_text() if log.exists() else '')

    def number(self, *arguments, **settings):
        """The number that a program prints, and how it ended; status 0 is asked for."""
        ended = self.run(*arguments, **settings)
        assert ended.status == 0, ended
        return int(ended.output.split()[0]), ended


def case_cpython_collects_cycles(bench):
    peak, ended = bench.number([PYTHON, '-c', CYCLES])
    calls, freed = ended.adapter('cpython')
    assert ended.attached('cpython') and calls > 0 and freed > 200 << 20, (calls, freed)
    assert peak < 200, f'{peak} MiB at a limit of 64: {calls} calls freed {freed}'


def case_runtimes_are_left_alone_while_there_is_room(bench):
    """Half way from MEMLIMIT_START to the limit they are asked for the first time, or when growth asks."""
    for expected, settings in (False, {}), (True, {'MEMLIMIT_START': '10%'}), (True, {'MEMLIMIT_GROWTH': '100%'}):
        peak, ended = bench.number([PYTHON, '-c', CYCLES], limit='640MiB', **settings)
        ran = ended.adapter('cpython')[0] > 0
        assert ran == expected, f'{settings}: peak {peak} MiB of 640, {ended.log}'
        # Collected at its growth, it never comes that far.
        assert 'to=moderate' in ended.log or 'MEMLIMIT_GROWTH' in settings, ended.log


def case_adapters_can_be_turned_off(bench):
    for setting in 'none', 'ruby,v8':
        peak, ended = bench.number([PYTHON, '-c', CYCLES], MEMLIMIT_ADAPTERS=setting)
        assert not ended.attached('cpython') and ended.adapter('cpython') == (0, 0), setting
        assert peak > 350, f'{peak} MiB: something else collected'
    _, ended = bench.number([PYTHON, '-c', CYCLES], MEMLIMIT_ADAPTERS='cpython')
    assert ended.adapter('cpython')[0] > 0


BLOCKED = PEAK + '''
import gc, os, select, signal, sys, threading, time
if "RECIPE" in os.environ:
    signal.signal(signal.SIGUSR2, lambda *_: gc.collect())
gc.disable()
foreign = []
known = {threading.main_thread().ident}
finished = threading.Event()
reader, writer = os.pipe()
class Node:
    def __del__(self):
        if threading.get_ident() not in known:
            foreign.append(threading.current_thread().name)
def churn():
    known.add(threading.get_ident())
    time.sleep(float(os.environ.get("REST", "0")))
    for i in range(150_000):
        node = Node()
        node.me = node
        node.text = bytes(4000)
    finished.set()
    os.write(writer, b"x")
thread = threading.Thread(target=churn)
thread.start()
HOW
thread.join()
gc.collect()
assert not gc.isenabled()
print(peak_mib(), len(foreign))
'''


def blocked(bench, how, **settings):
    """(peak, how many finalisers ran in a thread that the program does not know, how often it collected)"""
    ended = bench.run([PYTHON, '-c', BLOCKED.replace('HOW', how)], **settings)
    assert (ended.status, ended.errors) == (0, ''), ended
    peak, foreign = map(int, ended.output.split())
    return peak, foreign, ended.adapter('cpython')[0]


def case_cpython_main_thread_waits_for_a_lock(bench):
    """It collects then, on that thread: no finaliser runs where the program does not expect it."""
    for how in 'thread.join()', 'thread.join(3600)', 'finished.wait()', 'finished.wait(3600)':
        peak, foreign, calls = blocked(bench, how)
        assert calls > 0 and foreign == 0 and peak < 250, f'{how}: {peak} MiB of 600, {calls} calls, {foreign} foreign'


def case_cpython_main_thread_waits_though_all_rest(bench):
    """It looks seldom then, and no more than a moment's garbage may be there when it does."""
    peak, foreign, calls = blocked(bench, 'thread.join()', REST='3')
    assert calls > 0 and foreign == 0 and peak < 400, f'{peak} MiB of 600, {calls} calls, {foreign} foreign'


def case_cpython_main_thread_waits_for_events(bench):
    """By default nothing is interrupted. Who names cpython-threads has it collected elsewhere, and who handles
    MEMLIMIT_SIGNAL on the main thread."""
    how = 'assert select.select([reader], [], [])[0] == [reader]'
    peak, foreign, calls = blocked(bench, how)
    # It collects when the wait is over: all garbage was there by then.
    assert foreign == 0 and peak > 500, (peak, foreign, calls)
    peak, foreign, calls = blocked(bench, how, MEMLIMIT_ADAPTERS='cpython-threads')
    assert calls > 0 and foreign > 0 and peak < 250, (peak, foreign, calls)
    peak, foreign, _ = blocked(bench, how, MEMLIMIT_SIGNAL='USR2', RECIPE='yes')
    assert foreign == 0 and peak < 400, (peak, foreign)


INTERRUPTED = '''
import os, signal, threading, time
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(threading.get_ident()))
hold = bytearray(80 << 20)
going = True
def churn():
    while going:
        rows = [bytes(100_000) for _ in range(50)]
        time.sleep(0.001)
threading.Thread(target=churn).start()
never = threading.Event()
began = time.monotonic()
for seconds in 0.05, 0.3, 0.7:
    before = time.monotonic()
    assert not never.wait(seconds)
    assert time.monotonic() - before >= seconds
lock = threading.Lock()
lock.acquire()
assert not lock.acquire(timeout=0.1)
def from_outside():
    os.kill(os.getpid(), signal.SIGUSR1)
    while not came:
        time.sleep(0.001)
    lock.release()
threading.Thread(target=from_outside).start()
assert lock.acquire()
assert came == [threading.main_thread().ident]
class Enough(Exception):
    pass
def stop(*_):
    raise Enough
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    never.wait()
except Enough:
    print("done")
going = False
'''


def case_cpython_waits_are_what_they_were(bench):
    """Cut into slices at a limit that asks all the time: they end when they are to end, and for signals."""
    ended = bench.run([PYTHON, '-c', INTERRUPTED])
    assert (ended.status, ended.output, ended.adapter('cpython')[0] > 0) == (0, 'done\n', True), ended


# Every function that the adapter takes from an interpreter, and nothing behind it.
NO_PYTHON = """
int Py_IsInitialized(void) { return 0; }
int Py_IsFinalizing(void) { return 0; }
const char* PyCFunction_Type = "";
FUNCTIONS
"""
FUNCTIONS = ('Py_AddPendingCall PyImport_ImportModule PyObject_GetAttrString PyObject_Type PyObject_CallFunction '
             'PyLong_AsSsize_t Py_DecRef PyErr_Fetch PyErr_Restore PyInterpreterState_Get PyInterpreterState_Main '
             'PyGILState_GetThisThreadState PyGILState_Ensure PyGILState_Release').split()


# Until the log tells of it, one way or the other.
NO_PYTHON_MAIN = """
#include <poll.h>
#include <stdlib.h>
int Py_IsInitialized(void);
int main(void) {
  while (system("grep -q event=adapter_ log") != 0) poll(0, 0, 10);
  return Py_IsInitialized();
}
"""


def case_cpython_without_a_gil_is_left_alone(bench):
    """A build of that kind is told by a function that only it has; the same library without it is attached."""
    if shutil.which('cc', path=PATH) is None:
        raise LeftOut('no cc')
    for more, attached in ([], True), (['_Py_DecRefShared'], False):
        text = NO_PYTHON.replace('FUNCTIONS', ''.join(f'long {name}(void) {{ return 0; }}\n' for name in FUNCTIONS + more))
        (bench.directory / 'python.c').write_text(text)
        (bench.directory / 'main.c').write_text(NO_PYTHON_MAIN)
        for command in (['cc', '-shared', '-fPIC', 'python.c', '-o', 'libpython.so'],
                        ['cc', 'main.c', '-L.', '-lpython', f'-Wl,-rpath,{bench.directory}', '-o', 'main']):
            subprocess.run(command, cwd=bench.directory, env={'PATH': PATH}, check=True)
        ended = bench.run([bench.directory / 'main'])
        assert ended.status == 0 and ended.attached('cpython') == attached, ended
        left_out = 'event=adapter_left_out' in ended.log and 'adapter=cpython' in ended.log
        assert left_out != attached, ended.log


QUEUE = '''
import ctypes, threading, time
kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
call = kind(lambda argument: 0)
add = ctypes.pythonapi.Py_AddPendingCall
add.argtypes = [kind, ctypes.c_void_p]
def churn():
    hold = bytes(70 << 20)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        rows = [bytes(200_000) for _ in range(20)]
        time.sleep(0.005)
    added = 0
    while added < 32 and add(call, None) == 0:
        added += 1
    print(added)
thread = threading.Thread(target=churn)
thread.start()
thread.join()
'''


def case_cpython_leaves_room_in_the_queue(bench):
    """Up to 3.11 the queue of pending calls has 32 places, of which one stays empty; a blocked main thread
    takes none out."""
    free, _ = bench.number([PYTHON, '-c', QUEUE.replace('SECONDS', '0')], limit='off')
    left, _ = bench.number([PYTHON, '-c', QUEUE.replace('SECONDS', '5')])
    assert free - left <= 2, f'{left} places of {free} are left'


AT_EXIT = '''
import atexit
def allocate():
    hold = bytes(80 << 20)
    for i in range(300):
        rows = [bytes(100_000) for i in range(20)]
    print("done")
atexit.register(allocate)
'''


def case_cpython_exits_in_silence(bench):
    """Every version that is found here: what some answer while functions of atexit run is not for the user."""
    places = [pathlib.Path('/usr/bin'), pathlib.Path('/usr/local/bin'),
              *pathlib.Path.home().glob('.pyenv/versions/*/bin')]
    for python in sorted({path.resolve() for place in places for path in place.glob('python3.[0-9]*')
                          if re.fullmatch(r'python3\.[0-9]+', path.name)}):
        ended = bench.run([python, '-c', AT_EXIT])
        said = [line for line in ended.errors.splitlines() if not line.startswith('memlimit[')]
        assert (ended.status, ended.output, said) == (0, 'done\n', []), (python, said[:3])


def case_cpython_is_found_when_it_is_loaded(bench):
    """A program that loads the interpreter later on: here by way of ctypes, from another interpreter's point
    of view just a library. Ruby's stands for it, since a process has one CPython."""
    library = next(pathlib.Path('/usr/lib').glob('*/libruby-3.*.so.*'), None)
    if library is None:
        raise LeftOut('no libruby')
    program = f'''
import ctypes, time, pathlib, os
ctypes.CDLL("{library}")
log = pathlib.Path("log")
rows = []
while not log.exists() or "adapter=ruby" not in log.read_text():
    rows = [bytes(100_000) for _ in range(100)]
    time.sleep(0.001)
print(1)
'''
    _, ended = bench.number([PYTHON, '-c', program])
    assert ended.attached('ruby') and ended.attached('cpython')


def case_v8_collects_waves(bench):
    """By the peak: V8 gives pages back on threads of its own, after the collection that is measured."""
    waves = f"""
process.on('exit', () => console.log(process.resourceUsage().maxRSS >> 10));
console.log = ((log) => (text) => text === 'done' || log(text))(console.log);
process.argv.splice(1, 0, 'waves');
require('{CONTAINERS / 'waves.js'}');
"""
    command = ['node', '-e', waves, '6', '400000']
    peak, ended = bench.number(command, limit='160MiB')
    assert ended.attached('v8') and ended.adapter('v8')[0] > 0, ended
    without, _ = bench.number(command, limit='160MiB', MEMLIMIT_ADAPTERS='none')
    assert peak < without - 20, f'{peak} MiB at a limit of 160, {without} without the adapter'


def resident_mib(pid):
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    return int(re.search(r'VmRSS:\s+(\d+)', status)[1]) >> 10


def set_limit(path, text):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(f'limit={text}\n'.encode())
        client.shutdown(socket.SHUT_WR)
        client.recv(4096)


def case_v8_collects_while_node_waits(bench):
    """Nothing runs in the process when its limit is lowered: its threads are woken, and it ends as it would."""
    if shutil.which('node', path=PATH) is None:
        raise LeftOut('no node')
    program = CONTAINERS / 'node_waits.js'
    for what in ['rows', '300000', '0'], ['buffers', '100000', '0'], ['rows', '150000', '2']:
        log, door = bench.directory / 'log', bench.directory / 'socket'
        log.unlink(missing_ok=True)
        environment = {'PATH': PATH, 'LD_PRELOAD': bench.build / 'preload' / 'libmemlimit.so', 'MEMLIMIT': '4GiB',
                       'MEMLIMIT_LOG': f'debug:{log}', 'MEMLIMIT_SOCKET': door}
        with subprocess.Popen(['node', program, *what], env=environment, stdin=subprocess.PIPE, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
            try:
                assert process.stdout.readline() == 'waits\n'
                before = resident_mib(process.pid)
                set_limit(door, '40MiB')
                deadline = time.monotonic() + PATIENCE_S
                while resident_mib(process.pid) > before * 3 // 4 and time.monotonic() < deadline:
                    time.sleep(0.02)
                after = resident_mib(process.pid)
                output, errors = process.communicate('end\n', PATIENCE_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        ended = Ended(process.returncode, output, errors, log.read_text())
        calls, freed = ended.adapter('v8')
        assert after <= before * 3 // 4, f'{what}: {before} MiB became {after}: {ended}'
        assert calls > 0 and freed > 20 << 20, f'{what}: {before} MiB became {after}: {ended}'
        said = [line for line in errors.splitlines() if not line.startswith('memlimit[')]
        assert (ended.status, ended.output, said) == (0, 'ends\n', []), ended


def case_v8_is_left_alone_while_it_makes_a_snapshot(bench):
    """It crashed there when it was notified."""
    program = bench.directory / 'snapshot.js'
    program.write_text("""
let rows = [];
for (let i = 0; i < 300_000; ++i) rows.push({ i, text: 'x' + i });
rows = null;
require('v8').startupSnapshot.setDeserializeMainFunction(() => console.log('restored'));
""")
    blob = bench.directory / 'snapshot.blob'
    ended = bench.run(['node', '--snapshot-blob', blob, '--build-snapshot', program], limit='30MiB')
    assert ended.status == 0 and blob.exists() and ended.attached('v8'), ended
    ended = bench.run(['node', '--snapshot-blob', blob, 'program'], limit='30MiB')
    assert (ended.status, ended.output) == (0, 'restored\n'), ended


RUBY_END = '''
rows = Array.new(20_000) { |i| { i => "row %d" % i * 5 } }
ObjectSpace.define_finalizer(rows, proc { 20_000.times { |i| "late %d" % i * 50 } })
at_exit { 30_000.times { |i| { i => "row %d" % i * 50 } } }
exec({ "RUBY_FREE_AT_EXIT" => "1" }, RbConfig.ruby, __FILE__) if ENV["RUBY_FREE_AT_EXIT"].nil?
puts "done"
'''


def case_ruby_ends_as_it_does(bench):
    """It allocates to the very end; with RUBY_FREE_AT_EXIT (from 3.3 on) the interpreter is taken apart piece by piece."""
    program = bench.directory / 'end.rb'
    program.write_text(RUBY_END)
    ended = bench.run(['ruby', program], limit='8MiB', MEMLIMIT_LOG=f'debug:{bench.directory}/log')
    assert (ended.status, ended.output) == (0, 'done\n') and ended.adapter('ruby')[0] > 0, ended


RUBY_PEAK = f"""
$stdout = File.open(File::NULL, 'w')
load '{CONTAINERS / 'old_objects.rb'}'
STDOUT.puts File.read('/proc/self/status')[/VmHWM:\\s+(\\d+)/, 1].to_i / 1024
"""


def case_ruby_collects_though_disabled(bench):
    """Texts that the heap holds go back to it, and those that the collector's pages hold (from 3.2 on) make room there."""
    ended = bench.run(['ruby', CONTAINERS / 'old_objects.rb', 'disabled', '150000', '100'])
    assert (ended.status, ended.output) == (0, 'done\n'), ended
    calls, freed = ended.adapter('ruby')
    assert ended.attached('ruby') and calls > 0 and freed > 50 << 20, (calls, freed)
    peak, ended = bench.number(['ruby', '-e', RUBY_PEAK, 'disabled', '300000'])
    calls, _ = ended.adapter('ruby')
    without, _ = bench.number(['ruby', '-e', RUBY_PEAK, 'disabled', '300000'], MEMLIMIT_ADAPTERS='none')
    assert calls > 0 and peak < without - 40, f'{peak} MiB at a limit of 64, {without} without the adapter'


# Each process has made garbage, and waits: it would keep it for ever.
ERLANG = r"""
Waits = fun() -> length([lists:seq(1, 20) || _ <- lists:seq(1, 700)]), receive stop -> ok end end,
Pids = [begin P = spawn(Waits), timer:sleep(2), P end || _ <- lists:seq(1, 400)],
Status = fun() -> {ok, Text} = file:read_file("/proc/self/status"), Text end,
{match, [Peak]} = re:run(Status(), "VmHWM:\\s+(\\d+)", [{capture, [1], list}]),
io:format("~b ~b~n", [list_to_integer(Peak) div 1024, length([P || P <- Pids, is_process_alive(P)])]),
halt().
"""


def case_beam_collects_waiting_processes(bench):
    """Only where it is named; the node's processes go on, and its supervisor says nothing."""
    command = ['erl', '-noshell', '-eval', ERLANG]
    without, ended = bench.number(command, limit='96MiB')
    assert not ended.attached('beam') and ended.adapter('beam') == (0, 0), ended.log
    peak, ended = bench.number(command, limit='96MiB', MEMLIMIT_ADAPTERS='beam')
    calls, _ = ended.adapter('beam')
    assert ended.attached('beam') and calls > 0, ended.log
    assert ended.output.split()[1] == '400', ended.output
    said = [line for line in ended.errors.splitlines() if not line.startswith('memlimit[')]
    assert said == [], ended.errors
    assert peak < without - without // 6, f'{peak} MiB at a limit of 96, {without} without the adapter'


# Processes that keep what they have: each round collects all of it for nothing.
ERLANG_KEEPS = r"""
Pids = [spawn(fun() -> L = lists:seq(1, 30000), receive stop -> L end end) || _ <- lists:seq(1, 100)],
Name = os:getenv("MEMLIMIT_SOCKET"),
Ask = fun(Self, Text) ->
  {ok, S} = gen_tcp:connect({local, Name}, 0, [binary, {active, false}]),
  ok = gen_tcp:send(S, Text),
  gen_tcp:shutdown(S, write),
  All = fun(Read, Sofar) ->
    case gen_tcp:recv(S, 0) of {ok, More} -> Read(Read, <<Sofar/binary, More/binary>>); _ -> Sofar end end,
  Self(All(All, <<>>)) end,
Used = fun(Text) -> {match, [N]} = re:run(Text, "reclaim_cpu_ns (\\d+)", [{capture, [1], list}]), list_to_integer(N) end,
Waits = fun(Again, Tries) ->
  case Ask(Used, "stat\n") of
    N when N > 20000000; Tries == 0 -> io:format("~b~n", [N]);
    _ -> timer:sleep(50), Again(Again, Tries - 1) end end,
Waits(Waits, 200),
100 = length([P || P <- Pids, is_process_alive(P)]),
halt().
"""


def case_beam_pays_for_its_collections(bench):
    """They run on the node's schedulers, and count as reclaim all the same: the limiter is to see them."""
    used_ns, ended = bench.number(['erl', '-noshell', '-eval', ERLANG_KEEPS], limit='48MiB', MEMLIMIT_ADAPTERS='beam',
                                  MEMLIMIT_SOCKET=str(bench.directory / 'socket'))
    calls, _ = ended.adapter('beam')
    assert used_ns > 20_000_000 and calls > 0, (used_ns, ended.log)


def case_beam_starts_and_ends_under_rounds(bench):
    """Before the node is ready, and while it halts, nothing is sent to it."""
    for _ in range(10):
        ended = bench.run(['erl', '-noshell', '-eval', 'io:format("done~n"), halt().'], limit='4MiB',
                          MEMLIMIT_ADAPTERS='beam', MEMLIMIT_LOG='off')
        assert (ended.status, ended.output, ended.errors) == (0, 'done\n', ''), ended


PHP_PEAK = r'''
function mib(string $field): int
{
    preg_match("/$field:\s+(\d+)/", file_get_contents('/proc/self/status'), $found);
    return $found[1] >> 10;
}
'''

PHP_CYCLES = PHP_PEAK + '''
class Node { public $me; public $text; }
gc_disable();
for ($i = 0; $i < 100000; ++$i) {
    $node = new Node;
    $node->me = $node;
    $node->text = str_repeat('x', 4000 + $i % 2);
}
echo mib('VmHWM'), ' ', gc_enabled() ? 'enabled' : 'disabled', "\n";
'''


def case_php_collects_though_disabled(bench):
    """Also where opcache has compiled the program: what that calls is settled while PHP starts."""
    compiled = ['-d', 'opcache.enable_cli=1', '-d', 'opcache.jit_buffer_size=32M', '-d', 'opcache.jit=tracing']
    for options in [], compiled:
        peak, ended = bench.number(['php', *options, '-r', PHP_CYCLES])
        assert ended.attached('php') and ended.adapter('php')[0] > 0, (options, ended.log)
        assert peak < 200 and ended.output.endswith(' disabled\n'), ended.output
    # Compiled function by function, PHP's own interrupts go wrong: it is left alone.
    _, ended = bench.number(['php', *compiled, '-d', 'opcache.jit=function', '-r', PHP_CYCLES])
    assert ended.adapter('php') == (0, 0), ended.log
    peak, ended = bench.number(['php', '-r', PHP_CYCLES], MEMLIMIT_ADAPTERS='none')
    assert ended.adapter('php') == (0, 0) and peak > 350, f'{peak} MiB: something else collected'


PHP_PEAK_OF_WORK = PHP_PEAK + '''
function job(int $rows): int
{
    $all = [];
    for ($i = 0; $i < $rows; ++$i) {
        $all[] = [$i, "row $i"];
    }
    return count($all);
}
// What outlives the large job lies at the end of what it took.
$kept = [];
job(600_000);
for ($i = 0; $i < 100; ++$i) {
    job(1000);
    $kept[] = str_repeat('k', 3_000_000);
    $kept = array_slice($kept, -2);
}
echo mib('VmRSS'), "\n";
'''


def case_php_gives_back_after_a_peak(bench):
    """Free blocks that PHP keeps in its own heap go to the kernel; nothing of it is garbage in cycles."""
    held, ended = bench.number(['php', '-r', PHP_PEAK_OF_WORK])
    without, _ = bench.number(['php', '-r', PHP_PEAK_OF_WORK], MEMLIMIT_ADAPTERS='none')
    assert ended.adapter('php')[0] > 0 and held < 64 and without > 150, (held, without, ended.log)


PHP_SIGNALS = PHP_PEAK + '''
class Node { public $me; public $text; }
pcntl_async_signals(true);
$handled = 0;
pcntl_signal(SIGUSR1, function () use (&$handled) { ++$handled; });
for ($i = 0; $i < 100000; ++$i) {
    $node = new Node;
    $node->me = $node;
    $node->text = str_repeat('x', 4000 + $i % 2);
    if ($i % 100 === 0) {
        posix_kill(posix_getpid(), SIGUSR1);
    }
}
echo mib('VmHWM'), " $handled\n";
'''


def case_php_handles_its_signals(bench):
    """pcntl has the interrupt for itself, unless the adapter passes it on."""
    if bench.run(['php', '-r', 'exit(function_exists("pcntl_fork") ? 0 : 1);'], limit='off').status != 0:
        raise LeftOut('no pcntl')
    _, ended = bench.number(['php', '-r', 'gc_disable();' + PHP_SIGNALS])
    assert ended.adapter('php')[0] > 0 and ended.output.endswith(' 1000\n'), ended.output


# What a build of PHP exports that the adapter asks for, and a program that fills memory by malloc.
NOT_QUITE_PHP = r'''
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
char executor_globals[4096], compiler_globals[1024];
void (*zend_interrupt_function)(void*);
int (*gc_collect_cycles)(void);
int php_get_module_initialized(void) { return 1; }
const char* get_zend_version(void) { return VERSION; }
const char* zend_ini_string(const char* name, size_t length, int original) { return NULL; }
void php_request_startup(void) { abort(); }
void gc_protected(void) { abort(); }
void zend_memory_usage(void) { abort(); }
void zend_mm_get_heap(void) { abort(); }
void zend_mm_gc(void) { abort(); }
void _zend_bailout(void) { abort(); }
EXTRA
int main(void) {
  memset(executor_globals, 1, sizeof executor_globals);
  for (int i = 0; i < 300; ++i) memset(malloc(1 << 20), 1, 1 << 20);
  int changed = zend_interrupt_function != NULL;
  for (size_t i = 0; i < sizeof executor_globals; ++i) changed += executor_globals[i] != 1;
  // Until it is told, the thread that would tell may not have had its turn.
  for (int i = 0; TELLS && i < 60000; ++i) {
    char line[4096];
    FILE* log = fopen("log", "r");
    while (log != NULL && fgets(line, sizeof line, log) != NULL) {
      if (strstr(line, "event=adapter_left_out") != NULL) i = 60000;
    }
    if (log != NULL) fclose(log);
    if (i < 60000) memset(malloc(1 << 16), 1, 1 << 16), system("sleep 0.01");
  }
  printf("%d\n", changed);
  return 0;
}
'''


def case_php_of_another_kind_is_left_alone(bench):
    """Neither its globals nor its interrupt function are written, and it is said: a version that is not known, a build with
    thread safety, and globals that do not look like those of the version."""
    known, unknown = '"Zend Engine v4.4.1, Copyright"', '"Zend Engine v4.9.0, Copyright"'
    for version, extra, told in ((unknown, '', 1), (known, 'void tsrm_get_ls_cache(void) {}', 1), (known, '', 0)):
        source = NOT_QUITE_PHP
        if 'tsrm' in extra:  # its globals are each thread's
            source = source.replace('executor_globals', 'globals')
        source = source.replace('VERSION', version).replace('EXTRA', extra).replace('TELLS', str(told))
        (bench.directory / 'almost.c').write_text(source)
        subprocess.run(['cc', '-w', '-rdynamic', '-o', bench.directory / 'almost', bench.directory / 'almost.c'],
                       check=True, env={'PATH': PATH})
        changed, ended = bench.number([bench.directory / 'almost'])
        assert changed == 0 and ended.adapter('php') == (0, 0), (version, ended)
        assert ('event=adapter_left_out' in ended.log) == bool(told), (version, extra, ended.log)


FPM_POOL = """
[global]
error_log = {directory}/fpm.log
pid = {directory}/fpm.pid
process_control_timeout = 60s
[pool]
listen = {directory}/fpm.sock
pm = static
pm.max_children = 2
pm.max_requests = 25
clear_env = no
catch_workers_output = yes
"""
PHP_CLASS = '<?php class Node { public $me; public $text; }'
PHP_PAGE = """
gc_disable();
$sum = 0;
for ($i = 0; $i < 15000; ++$i) {
    $node = new Node;
    $node->me = $node;
    $node->text = str_repeat('x', 4000 + $i % 2);
    $sum += strlen($node->text);
}
"""
PHP_ANSWER = 'page 60007500\n'
PHP_TELLS = 'echo "page $sum\\n";'


class PhpServer:
    """Processes under the library that answer one page of PHP, each over the limit in each request."""

    def __init__(self, bench):
        self.directory = bench.directory
        self.errors = bench.directory / 'errors.log'
        self.environment = {'PATH': PATH, 'LD_PRELOAD': bench.build / 'preload' / 'libmemlimit.so',
                            'MEMLIMIT': '32MiB', 'MEMLIMIT_LOG': f'debug:{bench.directory / "log"}',
                            'MEMLIMIT_SOCKET': 'off'}

    def start(self, command):
        self.master = subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def get(self):
        """The page, however long the server takes to be there."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self.ask()
            if answer:
                return answer
            assert self.master.poll() is None and time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.02)

    def serves(self, reload, end, deaths):
        """60 pages, with a reload after each 20; nobody dies, and the heap was collected in each."""
        try:
            answers = []
            for number in range(60):
                answers.append(self.get())
                if number in (20, 40):
                    self.master.send_signal(reload)
            assert set(answers) == {PHP_ANSWER}, set(answers)
            self.master.send_signal(end)
            assert self.master.wait(PATIENCE_S) == 0
            died = [line for line in self.errors.read_text().splitlines() if deaths in line]
            assert not died, died
            log = Ended(0, '', '', (self.directory / 'log').read_text())
            assert log.adapter('php')[0] >= 60, log.adapter('php')
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.master.pid, signal.SIGKILL)
            self.master.wait()


class Fpm(PhpServer):
    """A pool of PHP's FastCGI processes."""

    def __init__(self, bench, page, *options):
        super().__init__(bench)
        self.socket, self.page = bench.directory / 'fpm.sock', bench.directory / 'page.php'
        self.errors = bench.directory / 'fpm.log'
        self.page.write_text(page)
        (bench.directory / 'fpm.conf').write_text(FPM_POOL.format(directory=bench.directory))
        program = next(pathlib.Path('/usr/sbin').glob('php-fpm8.*'), None)
        if program is None or shutil.which('cgi-fcgi', path=PATH) is None:
            raise LeftOut('no php-fpm, or no cgi-fcgi')
        root = ['-R'] if os.geteuid() == 0 else []
        self.start([program, *root, '-F', '-n', *options, '-y', bench.directory / 'fpm.conf'])

    def ask(self):
        variables = {'PATH': PATH, 'REQUEST_METHOD': 'GET', 'SCRIPT_FILENAME': str(self.page), 'SCRIPT_NAME': '/page'}
        ended = subprocess.run(['cgi-fcgi', '-bind', '-connect', self.socket], env=variables, check=False,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return ended.stdout.replace('\r', '').partition('\n\n')[2] if ended.returncode == 0 else ''


def case_php_fpm_serves_its_pages(bench):
    """Workers that are forked, end after 25 requests and are replaced by a reload."""
    fpm = Fpm(bench, PHP_CLASS + PHP_PAGE + PHP_TELLS)
    fpm.serves(reload=signal.SIGUSR2, end=signal.SIGQUIT, deaths='exited on signal')


def case_php_preloads_under_rounds(bench):
    """What opcache.preload runs before there is a worker is over the limit, too, and its classes go into shared memory."""
    if not list(pathlib.Path('/usr/lib/php').glob('*/opcache.so')):
        raise LeftOut('no opcache')
    preloaded = bench.directory / 'preloaded.php'
    preloaded.write_text(PHP_CLASS + PHP_PAGE)
    # Whoever is root has to say as whom it runs.
    user = ['-d', 'opcache.preload_user=nobody'] if os.geteuid() == 0 else []
    bench.directory.chmod(0o755)
    fpm = Fpm(bench, '<?php ' + PHP_PAGE + PHP_TELLS, '-d', 'zend_extension=opcache', '-d', 'opcache.enable=1',
              '-d', f'opcache.preload={preloaded}', *user)
    fpm.serves(reload=signal.SIGUSR2, end=signal.SIGQUIT, deaths='exited on signal')


APACHE = """
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {directory}/pid
ErrorLog {directory}/errors.log
DocumentRoot {directory}/pages
LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule php_module {php}
StartServers 2
MaxConnectionsPerChild 25
SetHandler application/x-httpd-php
"""


class Apache(PhpServer):
    """Apache's processes with PHP as a module in them."""

    def __init__(self, bench):
        super().__init__(bench)
        modules = pathlib.Path('/usr/lib/apache2/modules')
        module = next(modules.glob('libphp8.*.so'), None)
        program = pathlib.Path('/usr/sbin/apache2')
        if module is None or not program.exists():
            raise LeftOut('no apache2 with a module of PHP')
        (bench.directory / 'pages').mkdir()
        (bench.directory / 'pages' / 'page.php').write_text(PHP_CLASS + PHP_PAGE + PHP_TELLS)
        bench.directory.chmod(0o755)
        with socket.create_server(('127.0.0.1', 0)) as free:
            self.port = free.getsockname()[1]
        (bench.directory / 'conf').write_text(APACHE.format(directory=bench.directory, port=self.port, php=module,
                                                            modules=modules))
        self.start([program, '-DFOREGROUND', '-d', bench.directory, '-f', bench.directory / 'conf'])

    def ask(self):
        try:
            with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/page.php', timeout=PATIENCE_S) as page:
                return page.read().decode()
        except (ConnectionError, urllib.error.URLError):
            return ''


def case_php_in_apache_serves_its_pages(bench):
    """The module's own processes, which begin anew with each graceful restart."""
    Apache(bench).serves(reload=signal.SIGUSR1, end=signal.SIGTERM, deaths='exit signal')


SQLITE = PEAK + '''
import sqlite3
connection = sqlite3.connect("file.db")
connection.execute("pragma cache_size = -300000")
connection.execute("create table t(a, b)")
connection.executemany("insert into t values(?, ?)", ((i, "x" * 1000) for i in range(120_000)))
connection.commit()
print(peak_mib(), connection.execute("select count(*), sum(length(b)) from t").fetchone())
'''


def case_sqlite_cache_is_bounded(bench):
    peak, ended = bench.number([PYTHON, '-c', SQLITE])
    assert '(120000, 120000000)' in ended.output, ended.output
    os.unlink(bench.directory / 'file.db')
    without, _ = bench.number([PYTHON, '-c', SQLITE], MEMLIMIT_ADAPTERS='none')
    os.unlink(bench.directory / 'file.db')
    assert peak < 90 and without > 130, f'{peak} MiB at a limit of 64, {without} without the adapter'
    # A limit that the program has set itself stands.
    own = SQLITE.replace('connection.execute("pragma cache', '''
import ctypes
library = ctypes.CDLL("libsqlite3.so.0")
library.sqlite3_soft_heap_limit64.restype = ctypes.c_int64
library.sqlite3_soft_heap_limit64.argtypes = [ctypes.c_int64]
library.sqlite3_soft_heap_limit64(12_345_678)
connection.execute("pragma cache''', 1) + '''
assert library.sqlite3_soft_heap_limit64(-1) == 12_345_678
'''
    bench.number([PYTHON, '-c', own])


SIGNALLED = '''
use strict; use warnings;
my (%cache, $drops);
$drops = 0;
HANDLER
$cache{$_} = "v" x 1000 for 1 .. 150_000;
print "$drops drops\\n";
'''


def case_signal_only_while_it_is_handled(bench):
    handled = SIGNALLED.replace('HANDLER', '$SIG{USR2} = sub { %cache = (); ++$drops };')
    drops, _ = bench.number(['perl', '-e', handled], MEMLIMIT_SIGNAL='SIGUSR2')
    assert drops > 0
    for handler in '', '$SIG{USR2} = "IGNORE";', '$SIG{USR2} = sub {}; $SIG{USR2} = "DEFAULT";':
        drops, _ = bench.number(['perl', '-e', SIGNALLED.replace('HANDLER', handler)], MEMLIMIT_SIGNAL='USR2')
        assert drops == 0


WATCHER = '''
import os, select, threading
path = os.environ["MEMORY_PRESSURE_WATCH"]
assert "MEMORY_PRESSURE_WRITE" not in os.environ
rows, notices = [], 0
going = True
def watch():
    global notices
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    while going:
        if select.select([fd], [], [], 0.05)[0] and os.read(fd, 4096):
            notices += 1
            rows.clear()
    os.close(fd)
thread = threading.Thread(target=watch)
thread.start()
for i in range(4000):
    rows.append(b"x" * 100_000)
while notices == 0:
    rows.append(b"x" * 100_000)
going = False
thread.join()
print(notices)
'''


def case_pressure_is_told(bench):
    """As systemd's protocol has it: a FIFO in MEMORY_PRESSURE_WATCH, unless somebody else has set that."""
    notices, _ = bench.number([PYTHON, '-c', WATCHER], MEMLIMIT_PRESSURE='on')
    assert notices > 0
    show = 'import os; print(0, os.environ.get("MEMORY_PRESSURE_WATCH"))'
    _, ended = bench.number([PYTHON, '-c', show], MEMLIMIT_PRESSURE='on', MEMORY_PRESSURE_WATCH='/dev/null')
    assert ended.output == '0 /dev/null\n'
    _, ended = bench.number([PYTHON, '-c', show])
    assert ended.output == '0 None\n'


def case_example_plugin_shrinks_a_cache(bench):
    subprocess.run(['make', '-s', '-C', HERE.parent / 'plugin', f'OUT={bench.directory}'], check=True,
                   env={'PATH': PATH})
    program = bench.directory / 'program'
    cached, _ = bench.number([program])
    assert cached == 256, cached
    plugin = str(bench.directory / 'cache_plugin.so')
    cached, ended = bench.number([program], MEMLIMIT_PLUGINS=plugin)
    assert 20 < cached < 66, f'{cached} MiB of 256 are cached at a limit of 64: {ended.errors}'
    # One that cannot be loaded is told, and the others are; strict programs do not start.
    cached, ended = bench.number([program], MEMLIMIT_PLUGINS=f'/nonexistent.so:{plugin}')
    assert cached < 66 and 'MEMLIMIT_PLUGINS: not loaded: /nonexistent.so' in ended.errors, ended
    ended = bench.run([program], MEMLIMIT_PLUGINS='/nonexistent.so', MEMLIMIT_STRICT='1')
    assert ended.status == 78, ended


class Redis:
    """A redis-server under the library, and its answers as redis-cli prints them."""

    def __init__(self, bench):
        self.socket = bench.directory / 'redis.sock'
        environment = {'PATH': PATH, 'LD_PRELOAD': bench.build / 'preload' / 'libmemlimit.so',
                       'MEMLIMIT_SOCKET': 'off'}
        self.server = subprocess.Popen(
            ['redis-server', '--port', '0', '--unixsocket', self.socket, '--save', '', '--dir',
             bench.directory, '--logfile', bench.directory / 'redis.log'], env=environment)

    def ask(self, *words):
        ended = subprocess.run(['redis-cli', '-s', self.socket, *words], env={'PATH': PATH}, check=False,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return ended.stdout

    def memory(self, expected=lambda figures: True):
        """Redis asks the allocator ten times a second, and itself at once: waits until both tell of the same
        moment, and of what is expected by then."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            lines = (line.strip().partition(':') for line in self.ask('info', 'memory').splitlines())
            figures = {key: float(value) for key, _, value in lines if re.fullmatch(r'[0-9.]+', value)}
            told = 0 <= figures['allocator_allocated'] - figures['used_memory'] < 4 << 20
            if told and expected(figures):
                return figures
            assert time.monotonic() < deadline, figures
            time.sleep(0.05)


def case_redis_is_told_the_truth(bench):
    if shutil.which('redis-server', path=PATH) is None or shutil.which('redis-cli', path=PATH) is None:
        raise LeftOut('no redis-server')
    redis = Redis(bench)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while 'PONG' not in redis.ask('ping'):
            assert redis.server.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        fill = "for i = 1, 60000 do redis.call('set', i, string.rep('x', 1000)) end"
        redis.ask('eval', fill, '0')
        full = redis.memory()
        assert full['allocator_active'] >= full['allocator_allocated'], full
        assert full['allocator_active'] <= full['allocator_resident'] <= full['used_memory_rss'], full
        redis.ask('eval', "for i = 1, 60000 do if i % 100 ~= 0 then redis.call('del', i) end end", '0')
        assert redis.ask('memory', 'purge') == 'OK\n'
        purged = redis.memory(lambda now: full['allocator_resident'] - now['allocator_resident'] > 10e6)
        # The keys that are left hold a slice of 64 KiB each, of 64 blocks: the other third is given back.
        fell = full['allocator_resident'] - purged['allocator_resident']
        redis.ask('flushall')
        redis.ask('memory', 'purge')
        empty = redis.memory(lambda now: full['allocator_resident'] - now['allocator_resident'] > 50e6
                             and full['used_memory_rss'] - now['used_memory_rss'] > 50e6)
        print(f'  purge with 1 key of 100 left: {fell / 1e6:.0f} MB, with none: '
              f'{(full["allocator_resident"] - empty["allocator_resident"]) / 1e6:.0f} MB')
        report = redis.ask('memory', 'malloc-stats')
        allocated = int(re.search(r'^allocated: (\d+), active', report, re.M)[1])
        # INFO's figures are of the server's last tick, 100 ms ago.
        redis.memory(lambda now: abs(allocated - now['allocator_allocated']) < 1 << 20)
        redis.ask('shutdown', 'nosave')
        assert redis.server.wait(PATIENCE_S) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            redis.server.kill()
        redis.server.wait()


def java(*options, home=None):
    binary = pathlib.Path(home) / 'bin' / 'java' if home else 'java'
    # Of the machine's memory the VM would begin with a 64th.
    return [binary, '-Xms16m', '-Xmx1g', *options]


def java_heap(bench, options, **settings):
    """(MiB the heap ever had, MiB resident, how it ended) of 40 MiB alive and 1,500 replaced."""
    ended = bench.run([*java(*options), CONTAINERS / 'JavaHeap.java', '40', '1500', 'peaks'], **settings)
    # Where collectors get little time a heap passes its maximum, and ZGC keeps for minutes what it has: a line says so.
    assert ended.status == 0, ended
    return *map(int, ended.output.split()), ended


def case_java_heap_is_collected(bench):
    """By G1, which has no limit of its own, and Serial, which small containers get."""
    for collector in 'G1', 'Serial':
        options = [f'-XX:+Use{collector}GC']
        heap, peak, ended = java_heap(bench, options, limit='160MiB')
        calls, freed = ended.adapter('jvm')
        print(f'  {collector}: heap {heap}, peak {peak} MiB, {calls} collections freed {freed >> 20} MiB')
        assert ended.attached('jvm'), ended.log
        if collector == 'G1':
            _, plain, _ = java_heap(bench, options, limit='off')
            # Of what G1 gives back later the program has some again by then: freed says less than the peak.
            assert calls > 0 and peak < plain * 3 // 4, f'{peak} of {plain} MiB: {ended.log}'


SOFT_MAXIMUM = """
import com.sun.management.HotSpotDiagnosticMXBean;
import java.lang.management.ManagementFactory;

public class SoftMaximum {
  public static void main(String[] arguments) throws Exception {
    var options = ManagementFactory.getPlatformMXBean(HotSpotDiagnosticMXBean.class);
    var unwanted = arguments[0];
    var value = unwanted;
    for (int left = 100 * Integer.parseInt(arguments[1]); left > 0 && value.equals(unwanted); left--) {
      value = options.getVMOption("SoftMaxHeapSize").getValue();
      Thread.sleep(10);
    }
    System.out.println(value);
  }
}
"""


def case_java_heap_has_a_soft_maximum(bench):
    """Shenandoah and ZGC know one that can be set while they run: 70 % of the limit, unless the user has set it."""
    program = bench.directory / 'SoftMaximum.java'
    program.write_text(SOFT_MAXIMUM)
    for option in '-XX:+UseShenandoahGC', '-XX:+UseZGC':
        for users, before, expected in ([], 1 << 30, (160 << 20) // 100 * 70), \
                                       (['-XX:SoftMaxHeapSize=900m'], 900 << 20, 900 << 20):
            # What stays is looked at for a few seconds, what changes for as long as it takes.
            seconds = 3 if users else PATIENCE_S // 2
            command = [*java(option, *users), program, before, seconds]
            ended = bench.run(command, limit='160MiB')
            if 'Unrecognized VM option' in ended.errors + ended.output:
                raise LeftOut(f'no {option}')
            assert (ended.status, ended.errors) == (0, ''), ended
            assert int(ended.output) == expected, f'{option} {users}: {ended.output}{ended.log}'
        plain, _, _ = java_heap(bench, [option], limit='off')
        heap, _, ended = java_heap(bench, [option], limit='160MiB')
        print(f'  {option}: heap {heap} MiB, {plain} without')
        assert ended.attached('jvm') and heap < plain * 3 // 4, f'{heap} of {plain} MiB: {ended.log}'


def case_java_native_memory_is_freed(bench):
    """Small objects keep it, and their heap has no reason to look for garbage."""
    for kind, count in ('buffers', 2000), ('deflaters', 4000):
        command = [*java(), CONTAINERS / 'JavaNative.java', kind, count, 'peak']
        plain, _ = bench.number(command, limit='off')
        peak, ended = bench.number(command, limit='128MiB')
        calls, freed = ended.adapter('jvm')
        assert ended.errors == '', ended
        print(f'  {kind}: peak {peak} MiB, {plain} without; {calls} collections freed {freed >> 20} MiB')
        # What a thread frees after a round has what it wanted is seen in the peak alone.
        assert calls > 0 and freed > 0 and peak < plain * 3 // 4, f'{peak} of {plain} MiB: {ended.log}'


def case_java_explicit_collections_disabled(bench):
    """The user said no, and who names the adapter says yes."""
    command = [*java('-XX:+UseG1GC', '-XX:+DisableExplicitGC'), CONTAINERS / 'JavaNative.java', 'buffers', 800, 'peak']
    refused, ended = bench.number(command, limit='96MiB')
    assert ended.adapter('jvm') == (0, 0), ended
    assert re.search(r'event=adapter_left_out .*adapter=jvm', ended.log), ended.log
    assert 'jvm (the program disables explicit collections)' in ended.errors, ended.errors
    peak, ended = bench.number(command, limit='96MiB', MEMLIMIT_ADAPTERS='jvm')
    calls, freed = ended.adapter('jvm')
    assert calls > 0 and freed > 0 and peak < refused * 3 // 4, f'{peak} of {refused} MiB: {ended.log}'
    print(f'  peak {peak} MiB, {refused} when it is refused')


def case_java_without_modules(bench):
    """An image that jlink has made has neither management nor a compiler."""
    tools = [shutil.which(tool, path=PATH) for tool in ('jlink', 'javac')]
    if None in tools:
        raise LeftOut('no jlink')
    image = bench.directory / 'image'
    made = subprocess.run([tools[0], '--add-modules', 'java.base', '--output', image], capture_output=True, text=True)
    if made.returncode != 0:
        raise LeftOut(f'jlink: {made.stdout}')
    subprocess.run([tools[1], '-d', bench.directory, CONTAINERS / 'JavaHeap.java'], check=True)
    ended = bench.run([*java('-XX:+UseG1GC', '-cp', bench.directory, home=image), 'JavaHeap', '40', '1500', 'peaks'],
                      limit='128MiB')
    calls, freed = ended.adapter('jvm')
    assert ended.status == 0 and calls > 0 and freed > 0, ended


JAVA_HOST = r"""
#include <dlfcn.h>
#include <jni.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  void* const library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  jint (*const create)(JavaVM**, void**, void*) = dlsym(library, "JNI_CreateJavaVM");
  JavaVMOption options[] = {{"-Xmx64m", NULL}, {argv[2], NULL}};
  JavaVMInitArgs args = {JNI_VERSION_10, 2, options, JNI_FALSE};
  JavaVM* vm;
  JNIEnv* env;
  if (create(&vm, (void**)&env, &args) != 0) return 2;
  for (int i = 0; i < 20000; ++i) (*env)->DeleteLocalRef(env, (*env)->NewByteArray(env, 10000));
  if ((*vm)->DestroyJavaVM(vm) != 0) return 3;
  printf("destroyed\n");
  fflush(stdout);
  for (int ended = 0; !ended; ended = getchar() == EOF) free(malloc(1 << 20));
  return 0;
}
"""


def case_java_host_goes_on_without_its_vm(bench):
    """A program that makes a VM and destroys it while rounds ask it to collect: the service thread comes back from it."""
    compiler = shutil.which('javac', path=PATH)
    home = pathlib.Path(compiler).resolve().parent.parent if compiler else pathlib.Path('/nonexistent')
    library = home / 'lib' / 'server' / 'libjvm.so'
    if not library.exists() or not (home / 'include' / 'jni.h').exists():
        raise LeftOut('no JDK')
    source, host = bench.directory / 'host.c', bench.directory / 'host'
    source.write_text(JAVA_HOST)
    subprocess.run(['cc', '-I', home / 'include', '-I', home / 'include' / 'linux', '-o', host, source, '-ldl'],
                   check=True, env={'PATH': PATH})
    path = bench.directory / 'socket'
    plugin = bench.build / 'tests' / 'adapters' / 'libbombard_plugin.so'
    environment = {'PATH': PATH, 'LD_PRELOAD': bench.build / 'preload' / 'libmemlimit.so', 'MEMLIMIT': '4MiB',
                   'MEMLIMIT_SOCKET': path, 'MEMLIMIT_PLUGINS': plugin}
    for number in range(6):
        option = ('-XX:+UseG1GC', '-XX:+UseSerialGC')[number % 2]
        process = subprocess.Popen([host, library, option], env=environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout.readline() == 'destroyed\n', process.wait(PATIENCE_S)
            with socket.socket(socket.AF_UNIX) as asks:
                asks.settimeout(PATIENCE_S)
                asks.connect(str(path))
                asks.sendall(b'stat\n')
                assert asks.recv(4096).startswith(b'limit '), option
            process.stdin.close()
            assert process.wait(PATIENCE_S) == 0, option
        finally:
            process.kill()
            process.wait()


CASES = {name[len('case_'):]: case for name, case in globals().items() if name.startswith('case_')}


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    failed = []
    for name in sys.argv[2:] or CASES:
        directory = pathlib.Path(tempfile.mkdtemp(prefix='memlimit-adapters-'))
        began = time.monotonic()
        try:
            CASES[name](Bench(build, directory))
            print(f'ok {name} ({time.monotonic() - began:.1f} s)', flush=True)
        except LeftOut as reason:
            print(f'left out {name}: {reason}', flush=True)
        except Exception as error:  # one case that fails must not hide the others
            print(f'FAILED {name}: {type(error).__name__}: {error}'[:4000], flush=True)
            failed.append(name)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
