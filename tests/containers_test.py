"""Real processes in real memory groups: MEMLIMIT=NN%, resizing, processes that share a container, and programs
of language runtimes that the kernel kills without the library.

usage: containers_test.py BUILD_DIR [CASE...]

Makes groups below /sys/fs/cgroup (v2) or /sys/fs/cgroup/memory (v1) and removes them again. Where that cannot be
done (no root, no memory controller) it is skipped with status 77. Waits for conditions, never for a while.
"""

import contextlib
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

from debian_root import debian_13

MIB = 1 << 20
V2 = pathlib.Path('/sys/fs/cgroup/cgroup.controllers').exists()
HIERARCHY = pathlib.Path('/sys/fs/cgroup' if V2 else '/sys/fs/cgroup/memory')
LIMIT_FILE = 'memory.max' if V2 else 'memory.limit_in_bytes'
USAGE_FILE = 'memory.current' if V2 else 'memory.usage_in_bytes'
PEAK_FILE = 'memory.peak' if V2 else 'memory.max_usage_in_bytes'
PROGRAMS = pathlib.Path(__file__).resolve().parent / 'containers'
# Programs of another version than Debian's: by hand, where one is installed.
PROGRAM_PATH = ':'.join([*filter(None, [os.environ.get('MEMLIMIT_TEST_PROGRAMS')]), '/usr/local/bin:/usr/bin:/bin'])
PROGRAM_PATIENCE_S = 600  # a program of a runtime takes seconds where nothing else runs
PATIENCE_S = 120  # only a test that fails waits this long


def skip(reason):
    print(f'skipped: {reason}')
    sys.exit(77)


def wait_for(what, condition):
    """Returns condition()'s first true answer."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f'waited {PATIENCE_S} s in vain for {what}')


class Group:
    """A memory group with a limit, gone when the with-block ends."""

    def __init__(self, name, limit_bytes):
        self.path = HIERARCHY / f'memlimit-test-{os.getpid()}-{name}'
        self.limit_bytes = limit_bytes

    def __enter__(self):
        self.path.mkdir()
        self.resize(self.limit_bytes)
        return self

    def __exit__(self, *_):
        # A group lives until the kernel is done with its last process.
        def gone():
            try:
                self.path.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                return False
            return True

        wait_for(f'{self.path} to be empty', gone)

    def resize(self, limit_bytes):
        (self.path / LIMIT_FILE).write_text(str(limit_bytes))

    def read(self, name):
        return (self.path / name).read_text()

    def peak(self):
        return int(self.read(PEAK_FILE))


class Program:
    """A process under memlimit inside a group: tests/containers/cache.c, unless said otherwise."""

    def __init__(self, build, group, directory, name='program', before='', **settings):
        self.socket_path = directory / f'{name}.sock'
        self.log_path = directory / f'{name}.log'
        environment = {
            'PATH': '/usr/bin:/bin',
            'LD_PRELOAD': str(build / 'preload' / 'libmemlimit.so'),
            'MEMLIMIT_SOCKET': str(self.socket_path),
            'MEMLIMIT_LOG': f'info:{self.log_path}',
        }
        environment.update(settings)
        # The group is entered before the program starts. The shell itself runs without the library.
        script = f'echo $$ >{group.path}/cgroup.procs || exit 99; {before} exec env "$@"'
        variables = [f'{key}={value}' for key, value in environment.items()]
        self.process = subprocess.Popen(
            ['/bin/sh', '-c', script, 'sh', *variables, str(build / 'tests' / 'containers_cache')],
            env={'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'}, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.expect_line('ready')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                stream.close()

    def expect_line(self, line):
        got = self.process.stdout.readline().strip()
        assert got == line, (f'{got!r} instead of {line!r}; status {self.process.poll()}, '
                             f'errors: {self.process.stderr.read()}')

    def ask(self, line):
        """Sends a line, returns the MiB in the cache afterwards."""
        self.process.stdin.write(line + '\n')
        answer = self.process.stdout.readline()
        assert answer, f'died at "{line}" with status {self.process.wait()}'
        return int(answer)

    def request(self, text):
        def attempt():
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE_S)
                try:
                    client.connect(str(self.socket_path))
                except (FileNotFoundError, ConnectionRefusedError):
                    return None
                client.sendall(text.encode() + b'\n')
                client.shutdown(socket.SHUT_WR)
                answer = b''
                while chunk := client.recv(65536):
                    answer += chunk
                return answer.decode()

        return wait_for('the socket', attempt)

    def stat(self):
        lines = (line.split() for line in self.request('stat').splitlines())
        return {fields[0]: int(fields[1]) for fields in lines if len(fields) == 2}

    def status(self):
        lines = (line.partition(':') for line in self.request('status').splitlines())
        return {key: value.strip() for key, _, value in lines}

    def end(self):
        """Ends it; returns what it wrote to standard error."""
        _, errors = self.process.communicate('quit\n', timeout=PATIENCE_S)
        assert self.process.returncode == 0, f'status {self.process.returncode}: {errors}'
        return errors


def case_percentage_of_the_group(build, directory):
    with Group('percent', 256 * MIB) as group:
        with Program(build, group, directory, MEMLIMIT='80%') as program:
            program.ask('hold 20')
            stat, status = program.stat(), program.status()
            assert stat['limit'] == 256 * MIB * 80 // 100, stat
            assert status['Account'] == 'cgroup', status
            assert status['LimitFrom'] == 'MEMLIMIT (80% of 256 MiB)', status
            # The figure may be some milliseconds old.
            wait_for("the group's figure", lambda: 20 * MIB <= program.stat()['cgroup_used'] <= 256 * MIB)
            assert stat['paced'] >= stat['heap_alloc'], stat
            log = wait_for('the log', lambda: program.log_path.read_text()
                           if LIMIT_FILE in program.log_path.read_text() else '')
            assert f'256 MiB, by {group.path}/{LIMIT_FILE}' in log, log
            program.end()


def case_resized_while_running(build, directory):
    with Group('resize', 256 * MIB) as group:
        with Program(build, group, directory, MEMLIMIT='auto') as program:
            assert program.stat()['limit'] == 256 * MIB * 90 // 100
            group.resize(200 * MIB)
            wait_for('the new limit', lambda: program.stat()['limit'] == 200 * MIB * 90 // 100)
            wait_for('its line in the log', lambda: [
                line for line in program.log_path.read_text().splitlines()
                if 'event=limit ' in line and line.endswith('by=container')])
            program.end()


def case_cache_is_held_below_the_group(build, directory):
    with Group('hold', 128 * MIB) as group:
        with Program(build, group, directory, MEMLIMIT='85%') as program:
            held = program.ask('fill 1000')
            stat = program.stat()
            assert stat['rounds'] > 0 and stat['reclaimed'] > 500 * MIB, stat
            assert held > 40, f'{held} MiB of the cache are left: {stat}'
            program.end()


def case_explicit_bytes_in_a_group(build, directory):
    with Group('bytes', 256 * MIB) as group:
        settings = {'MEMLIMIT': '150MiB', 'MEMLIMIT_ACCOUNT': 'cgroup'}
        with Program(build, group, directory, 'holder', MEMLIMIT='off') as holder, \
                Program(build, group, directory, **settings) as program:
            holder.ask('hold 100')
            program.ask('hold 5')

            def sees_its_neighbour():
                stat = program.stat()
                return stat['paced'] > 100 * MIB > stat['heap_alloc'] and stat

            stat = wait_for('the neighbour to count', sees_its_neighbour)
            assert stat['limit'] == 150 * MIB, stat
            program.end()
            holder.end()


def case_large_and_small_share(build, directory):
    """Two caches in one container: the large one grows for ever, the small one keeps what it has."""
    with Group('share', 256 * MIB) as group:
        with Program(build, group, directory, 'large', MEMLIMIT='80%') as large, \
                Program(build, group, directory, 'small', MEMLIMIT='80%') as small:
            small_before = small.ask('fill 30')
            small_held, large_held = [], []
            for _ in range(10):
                large_held.append(large.ask('fill 100'))
                small_held.append(small.ask('fill 1'))
            print(f'large holds {large_held} MiB, small {small_held} of {small_before} MiB '
                  f'and 1 more each time; peak {group.peak() / MIB:.0f} of 256 MiB')
            assert large.process.poll() is None and small.process.poll() is None
            assert min(small_held) > small_before / 2, small_held
            assert large_held[-1] > 60, large_held
            small.end()
            large.end()


def case_sleeping_cache_gives_to_a_neighbour(build, directory):
    """The neighbour has no limit of its own: only a look at the group tells the one that sleeps."""
    with Group('sleeps', 128 * MIB) as group:
        with Program(build, group, directory, 'cache', MEMLIMIT='80%') as cache, \
                Program(build, group, directory, 'neighbour', MEMLIMIT='off') as neighbour:
            before = cache.ask('fill 60')
            neighbour.ask('hold 50')
            after = wait_for('the cache to give', lambda: (held := cache.ask('held')) < before and held)
            print(f'  {after} of {before} MiB are left')
            cache.end()
            neighbour.end()


def case_bad_value_is_told(build, directory):
    with Group('bad', 256 * MIB) as group:
        with Program(build, group, directory, MEMLIMIT='eighty%') as program:
            assert program.stat()['limit'] == 0
            errors = program.end()
            assert 'MEMLIMIT="eighty%"' in errors, errors


def case_small_group_gets_its_share(build, directory):
    """80 % of it, though that is little, and nothing is said of it; of next to nothing there is a line."""
    with Group('small', 48 * MIB) as group:
        with Program(build, group, directory, MEMLIMIT='80%') as program:
            assert program.stat()['limit'] == 48 * MIB * 80 // 100
            program.ask('fill 200')
            errors = program.end()
            assert errors == '', errors
        with Program(build, group, directory, MEMLIMIT='1%') as program:
            assert program.stat()['limit'] == 48 * MIB // 100
            errors = program.end()
            assert 'MEMLIMIT=1% of 48 MiB is 492 KiB, too little for a program' in errors, errors


def case_group_that_cannot_be_seen_is_told_at_once(build, directory):
    """The limit is then of the machine's memory, and the line comes without a service thread."""
    if subprocess.run(['unshare', '-m', 'true'], stderr=subprocess.DEVNULL).returncode != 0:
        print('  (left out: no mount namespaces here)')
        return
    library = build / 'preload' / 'libmemlimit.so'
    program = f'env MEMLIMIT=80% MEMLIMIT_LOG={{}} LD_PRELOAD={library} true'
    for log, told in (('warn', True), ('error', False)):
        script = f'umount -a -t cgroup,cgroup2; exec {program.format(log)}'
        with Group('hidden', 256 * MIB) as group:
            _, _, errors = run_in_group(group, ['unshare', '-m', 'sh', '-c', script], directory)[0]
        said = "MEMLIMIT=80% is of the machine's memory (" in errors and 'not mounted here' in errors
        assert said == told, errors


LEAK = """
import os
held = []
for _ in range(20):
    held.append(bytes(1_000_000))
while True:
    held.append(bytes(50_000))
"""


def case_kernels_kill_is_announced(build, directory):
    """A leak in a group: nothing helps, and the last line says what is about to happen."""
    library = build / 'preload' / 'libmemlimit.so'
    with Group('leak', 64 * MIB) as group:
        status, _, errors = run_in_group(group, ['/usr/bin/python3', '-I', '-c', LEAK], directory,
                                         LD_PRELOAD=library, MEMLIMIT='80%', MEMLIMIT_SOCKET='off')[0]
    assert status == -signal.SIGKILL, (status, errors)
    assert re.search(r'the container is nearly full: .* of 64 MiB are left, and nothing helps', errors), errors
    assert 'live set' not in errors, errors


NEIGHBOUR = """
import sys
def usage(): return int(open(sys.argv[1]).read())
held = []
while usage() < int(sys.argv[2]):
    held.append(bytes(50_000))
for _ in range(1000):
    churned = bytes(500_000)
print('full', flush=True)
sys.stdin.read()
"""


def case_what_concerns_all_is_said_once(build, directory):
    """Processes that together are over the limit of their container, where none has anything to give."""
    settings = {'PATH': PROGRAM_PATH, 'LD_PRELOAD': build / 'preload' / 'libmemlimit.so', 'MEMLIMIT': '80%',
                'MEMLIMIT_SOCKET': 'off', 'MEMLIMIT_ADAPTERS': 'none'}
    with Group('once', 256 * MIB) as group:
        script = f'echo $$ >{group.path}/cgroup.procs || exit 99; exec env -i "$@"'
        command = ['/bin/sh', '-c', script, 'sh', *(f'{key}={value}' for key, value in settings.items()),
                   '/usr/bin/python3', '-I', '-c', NEIGHBOUR, group.path / USAGE_FILE, str(256 * MIB * 86 // 100)]
        neighbours = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True) for _ in range(8)]
        # All of them live until the last has found it.
        for process in neighbours:
            line = process.stdout.readline()
            assert line == 'full\n', f'{line!r}, {process.poll()}'
        errors = [process.communicate('')[1] for process in neighbours]
    said = [line for text in errors for line in text.splitlines() if 'cannot be held' in line]
    assert len(said) == 1, errors
    assert sum(text.count('nearly full') for text in errors) <= 1, errors
    assert re.search(r"The container's processes hold 2\d\d MiB after reclaim \(this one [\d.]+ MiB\)", said[0]), said


def case_malformed_limit_file_is_told(build, directory):
    """A bind mount puts nonsense in the place of the limit's file, in a mount namespace of its own."""
    if subprocess.run(['unshare', '-m', 'true'], stderr=subprocess.DEVNULL).returncode != 0:
        print('  (left out: no mount namespaces here)')
        return
    nonsense = directory / 'nonsense'
    nonsense.write_text('plenty\n')
    with Group('malformed', 256 * MIB) as group:
        before = f'exec unshare -m sh -c \'mount --bind {nonsense} ' \
                 f'{group.path}/{LIMIT_FILE} && exec env "$@"\' sh "$@";'
        with Program(build, group, directory, before=before, MEMLIMIT='80%') as program:
            program.ask('fill 10')
            assert program.stat()['limit'] > 0
            text = wait_for('a line in the log', program.log_path.read_text)
            errors = program.end()
            said = errors + text
            assert str(group.path / LIMIT_FILE) in said, said
            assert "the container's memory is" in said, said


def run_in_group(group, command, directory, copies=1, **settings):
    """Starts that many of it in the group at once. [(status, output, errors)]; none may still run."""
    script = f'echo $$ >{group.path}/cgroup.procs || exit 99; exec env -i "$@"'
    variables = [f'{key}={value}' for key, value in {'PATH': PROGRAM_PATH, **settings}.items()]
    # Files, not pipes: who is killed in the middle of a line has written the beginning.
    outputs = [tempfile.TemporaryFile(dir=directory) for _ in range(copies)]
    errors = [tempfile.TemporaryFile(dir=directory) for _ in range(copies)]
    processes = [
        subprocess.Popen(['/bin/sh', '-c', script, 'sh', *variables, *map(str, command)], env={},
                         cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=error)
        for output, error in zip(outputs, errors)]
    results = []
    for process, output, error in zip(processes, outputs, errors):
        try:
            process.wait(PROGRAM_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            process.returncode = f'none, still running after {PROGRAM_PATIENCE_S} s'
        texts = []
        for file in (output, error):
            file.seek(0)
            texts.append(file.read().decode(errors='replace'))
            file.close()
        results.append((process.returncode, *texts))
    return results


def survives(build, directory, limit_mb, command, copies=1, percent=85, **settings):
    """Killed by the kernel without the library, finished with it at so much of the group."""
    if shutil.which(command[0], path=PROGRAM_PATH) is None:
        print(f'  (left out: no {command[0]})')
        return
    command = [command[0], *[PROGRAMS / word if (PROGRAMS / word).is_file() else word for word in command[1:]]]
    with Group('plain', limit_mb * 1_000_000) as group:
        plain = run_in_group(group, command, directory, copies)
    with Group('under', limit_mb * 1_000_000) as group:
        settings = {'LD_PRELOAD': build / 'preload' / 'libmemlimit.so', 'MEMLIMIT': f'{percent}%',
                    'MEMLIMIT_SOCKET': 'off', **settings}
        under = run_in_group(group, command, directory, copies, **settings)
        peak = group.peak()
    print(f'  peak {peak / 1e6:.0f} of {limit_mb} MB')
    killed = [status for status, _, _ in plain if status == -signal.SIGKILL]
    assert killed, f'not killed without the library, so this shows nothing: {plain}'
    for status, output, errors in under:
        assert (status, output) == (0, 'done\n'), f'status {status}: {output}{errors}'


def case_python_cycles_collector_on(build, directory):
    survives(build, directory, 200, ['/usr/bin/python3', 'cycles_collected.py'])


def case_python_large_cycles_collector_off(build, directory):
    survives(build, directory, 200, ['/usr/bin/python3', 'cycles_uncollected.py', 'large', '100000'])


def case_python_small_cycles_collector_off(build, directory):
    survives(build, directory, 200, ['/usr/bin/python3', 'cycles_uncollected.py', 'small', '2000000'])


def case_python_main_thread_in_join(build, directory):
    survives(build, directory, 200, ['/usr/bin/python3', 'threaded_server.py', 'join', '1500'], percent=80)


def case_python_main_thread_in_event_wait(build, directory):
    survives(build, directory, 200, ['/usr/bin/python3', 'threaded_server.py', 'event', '1500'], percent=80)


def case_python_main_thread_in_select(build, directory):
    """With the recipe of lib/cpython.md: nothing is to interrupt a select that does not expect it."""
    survives(build, directory, 200, ['/usr/bin/python3', 'threaded_server.py', 'select', '1500'], percent=80,
             MEMLIMIT_SIGNAL='USR2')


def case_ruby_waves_of_old_objects(build, directory):
    """From 3.3 on Ruby keeps less of the waves before."""
    version = ''
    if shutil.which('ruby', path=PROGRAM_PATH):
        version = subprocess.run(['ruby', '-e', 'print RUBY_VERSION'], capture_output=True, text=True, check=True).stdout
    limit_mb, rows = (160, '200000') if version.startswith(('3.0', '3.1', '3.2')) else (180, '300000')
    survives(build, directory, limit_mb, ['ruby', 'old_objects.rb', 'waves', rows])


def case_ruby_collector_disabled(build, directory):
    survives(build, directory, 180, ['ruby', 'old_objects.rb', 'disabled', '500000'])


def case_php_queue_worker(build, directory):
    """Cycles that PHP's collector, which is on, comes to after 10,000 of them."""
    survives(build, directory, 160, ['php', 'queue_worker.php', '8000'], MEMLIMIT='80%')


def case_php_collector_disabled(build, directory):
    survives(build, directory, 160, ['php', 'queue_worker.php', '8000', '50000', 'disabled'], MEMLIMIT='80%')


def case_erlang_waiting_processes(build, directory):
    survives(build, directory, 160, ['escript', 'waiting_processes.escript'], percent=80, MEMLIMIT_ADAPTERS='beam')


@contextlib.contextmanager
def library_in(root, build):
    """The library that is built for any system, with what it is linked with, in a directory of that root. Its path there."""
    library = build / 'preload' / 'relocatable' / 'libmemlimit.so'
    linked = subprocess.run(['ldd', library], check=True, stdout=subprocess.PIPE, text=True).stdout
    directory = pathlib.Path(tempfile.mkdtemp(prefix='memlimit-', dir=root / 'tmp'))
    try:
        shutil.copy(library, directory)
        shutil.copy(re.search(r'libmimalloc\S* => (\S+)', linked)[1], directory)
        shutil.copytree(PROGRAMS, directory / 'programs')
        yield pathlib.Path('/') / directory.relative_to(root)
    finally:
        shutil.rmtree(directory)


def case_ruby_of_debian_13(build, directory):
    """Ruby 3.3 in a root of Debian 13."""
    root, why_not = debian_13()
    if root is None:
        print(f'  (left out: {why_not})')
        return
    script = ('mount --rbind /proc "$1/proc" && mount --rbind /sys "$1/sys" && mount --rbind /dev "$1/dev" && '
              'exec /usr/sbin/chroot "$@"')
    with library_in(root, build) as place:
        for arguments in (['waves', '300000'], ['disabled', '500000']):
            settings = [f'LD_PRELOAD={place}/libmemlimit.so', 'MEMLIMIT=80%', 'MEMLIMIT_SOCKET=off']
            statuses = []
            for variables in ([], settings):
                command = ['unshare', '-m', 'sh', '-c', script, 'sh', root, 'env', *variables, 'ruby3.3',
                           place / 'programs/old_objects.rb', *arguments]
                with Group('debian13', 180_000_000) as group:
                    status, output, errors = run_in_group(group, command, directory)[0]
                    statuses.append(status)
                    print(f'  {arguments[0]}: status {status}, peak {group.peak() / 1e6:.0f} of 180 MB')
            assert statuses == [-signal.SIGKILL, 0] and output == 'done\n', (statuses, output, errors)


def case_three_nodes_in_one_group(build, directory):
    """None of them is told of the others: what the group holds is what they answer to."""
    survives(build, directory, 320, ['node', 'request_bodies.js', '40000', '300', '100000'], copies=3)


def case_perl_drops_its_cache_on_a_signal(build, directory):
    survives(build, directory, 150, ['perl', 'signal_cache.pl'], MEMLIMIT_SIGNAL='USR2')


def case_java_heap_larger_than_its_group(build, directory):
    """A fifth of the group is alive, and the heap may be more than twice as large as it."""
    survives(build, directory, 400, ['java', '-XX:+UseG1GC', '-Xmx1g', 'JavaHeap.java', '80', '2500'], MEMLIMIT='80%')


def case_java_direct_buffers(build, directory):
    survives(build, directory, 400, ['java', '-XX:+UseG1GC', '-Xmx1g', 'JavaNative.java', 'buffers', '3000'],
             MEMLIMIT='80%')


def case_java_deflaters(build, directory):
    survives(build, directory, 400, ['java', '-Xmx1g', 'JavaNative.java', 'deflaters', '7000'], MEMLIMIT='80%')


CASES = {name[len('case_'):]: case for name, case in globals().items() if name.startswith('case_')}


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    try:
        if V2:
            (HIERARCHY / 'cgroup.subtree_control').write_text('+memory')
        with Group('probe', 64 * MIB):
            pass
    except OSError as error:
        skip(f'no memory group can be made: {error}')
    failed = []
    for name in sys.argv[2:] or CASES:
        directory = pathlib.Path(tempfile.mkdtemp(prefix='memlimit-containers-'))
        began = time.monotonic()
        try:
            CASES[name](build, directory)
            print(f'ok {name} ({time.monotonic() - began:.1f} s)', flush=True)
        except Exception as error:  # one case that fails must not hide the others
            print(f'FAILED {name}: {type(error).__name__}: {error}', flush=True)
            failed.append(name)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
