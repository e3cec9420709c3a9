#!/usr/bin/env python3
"""guest - the tests that run inside the machine that tests/vm/run boots: cgroup v2 and systemd, as they are there.

usage: guest.py, with the arguments in /payload/arguments: [--short] [TEST...]

A line for each test, `ok NAME (SECONDS)` or `not ok NAME: why`, then `end: N passed, N failed`. Waits for conditions,
never for a while. The cases of tests/containers_test.py run here, too, in groups of their own.
"""

import contextlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

PAYLOAD = pathlib.Path('/payload')
sys.path.insert(0, str(PAYLOAD / 'tests'))
import containers_test as containers  # noqa: E402
from containers_test import MIB, wait_for  # noqa: E402

BUILD = PAYLOAD / 'build'
CACHE = BUILD / 'tests' / 'containers_cache'
OPT = pathlib.Path('/opt/memlimit')
UNITS = pathlib.Path('/run/systemd/system')
GROUPS = pathlib.Path('/sys/fs/cgroup')
CYCLES = PAYLOAD / 'tests' / 'containers' / 'cycles_uncollected.py'
# The machine is emulated, and what emulates it may be busy.
containers.PATIENCE_S = 300

# What a short run holds: the main claims.
SHORT = ['memory_max_is_followed', 'resized_by_set_property', 'memory_high_counts', 'tightest_slice_counts',
         'unit_of_the_readme', 'two_units_with_sockets', 'python_cycles_in_a_unit']


def run(*command, check=True):
    """What it writes to both streams."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert not check or done.returncode == 0, f'{command}: status {done.returncode}: {done.stdout}'
    return done.stdout


def properties(unit, *names):
    lines = run('systemctl', 'show', unit, *(f'--property={name}' for name in names)).splitlines()
    return dict(line.split('=', 1) for line in lines)


class Unit(containers.Program):
    """tests/containers/cache.c under memlimit as a service of systemd's, with these properties."""

    def __init__(self, name, directory, *settings, **limits):
        self.unit = f'{name}.service'
        self.socket_path = directory / f'{name}.sock'
        self.log_path = directory / f'{name}.log'
        variables = [f'--setenv=MEMLIMIT_SOCKET={self.socket_path}', f'--setenv=MEMLIMIT_LOG=info:{self.log_path}',
                     f'--setenv=LD_PRELOAD={OPT}/libmemlimit.so', *(f'--setenv={setting}' for setting in settings)]
        self.process = subprocess.Popen(
            ['systemd-run', '--quiet', '--wait', '--pipe', '--collect', f'--unit={name}',
             *(f'--property={key}={value}' for key, value in limits.items()), *variables, str(CACHE)],
            text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.expect_line('ready')

    def __exit__(self, *arguments):
        if self.process.poll() is None:
            run('systemctl', 'kill', '--signal=KILL', self.unit, check=False)
        super().__exit__(*arguments)

    def set_property(self, *assignments):
        run('systemctl', 'set-property', '--runtime', self.unit, *assignments)

    def wait_for_limit(self, limit_bytes):
        wait_for(f'a limit of {limit_bytes}', lambda: self.stat()['limit'] == limit_bytes)

    def wait_for_log(self, text):
        return wait_for(f'"{text}" in the log', lambda: [
            line for line in self.log_path.read_text().splitlines() if text in line])


@contextlib.contextmanager
def unit_files(**texts):
    """Units by name ("_" stands for ".") that are there while the with-block runs."""
    names = [name.replace('_', '.') for name in texts]
    for name, text in zip(names, texts.values()):
        (UNITS / name).write_text(text)
    run('systemctl', 'daemon-reload')
    try:
        yield
    finally:
        run('systemctl', 'stop', *names, check=False)
        for name in names:
            (UNITS / name).unlink()
        run('systemctl', 'daemon-reload')


def readme_unit(command):
    """The recipe of README.md, with that in the place of its server."""
    blocks = re.findall(r'^```ini\n(.*?)^```$', (PAYLOAD / 'README.md').read_text(), re.M | re.S)
    assert len(blocks) == 1 and '/usr/local/bin/server' in blocks[0], blocks
    return blocks[0].replace('/usr/local/bin/server', command)


def memlimit(*arguments):
    return run(OPT / 'memlimit', *arguments)


# Large enough to have a socket, and then idle.
SERVER = """#!/usr/bin/python3
import signal
held = [bytes(10_000) for _ in range(3_000)]
signal.pause()
"""


@contextlib.contextmanager
def server(name):
    """A program of that name."""
    path = pathlib.Path('/usr/local/bin') / name
    path.write_text(SERVER)
    path.chmod(0o755)
    try:
        yield str(path)
    finally:
        path.unlink()


def main_pid(unit):
    return int(properties(unit, 'MainPID')['MainPID'])


def stat_of(unit):
    """The figures of a unit's process, from its socket, as the tool finds it."""
    lines = memlimit('stat', str(main_pid(unit)), 'stat').splitlines()
    return {key: int(value) for key, value in (line.split() for line in lines[0:]) if value.lstrip('-').isdigit()}


def socket_of(unit):
    """The path of the file that a unit's process listens on, once it does."""
    pid = main_pid(unit)
    end = f'/{pid}.sock'

    def listens():
        lines = pathlib.Path(f'/proc/{pid}/net/unix').read_text().splitlines()
        return [line.split()[-1] for line in lines if line.endswith(end)]

    paths = wait_for(f'the socket of {unit}', listens)
    assert len(paths) == 1 and pathlib.Path(paths[0]).is_socket(), paths
    return pathlib.Path(paths[0])


def case_memory_max_is_followed(directory):
    with Unit('percent', directory, 'MEMLIMIT=80%', MemoryMax='256M') as program:
        program.ask('hold 20')
        stat, status = program.stat(), program.status()
        assert stat['limit'] == 256 * MIB * 80 // 100, stat
        assert (status['Account'], status['LimitFrom']) == ('cgroup', 'MEMLIMIT (80% of 256 MiB)'), status
        wait_for("the group's figure", lambda: 20 * MIB <= program.stat()['cgroup_used'] <= 256 * MIB)
        program.wait_for_log(f'256 MiB, by {GROUPS}/system.slice/percent.service/memory.max')
        program.end()


def case_resized_by_set_property(directory):
    with Unit('resize', directory, 'MEMLIMIT=auto', MemoryMax='256M') as program:
        assert program.stat()['limit'] == 256 * MIB * 90 // 100
        for mib in (200, 300):
            program.set_property(f'MemoryMax={mib}M')
            program.wait_for_limit(mib * MIB * 90 // 100)
        said = [line for line in program.wait_for_log('event=limit ') if line.endswith('by=container')]
        assert len(said) == 2, said
        program.set_property('MemoryMax=infinity')
        program.wait_for_log('/proc/meminfo')
        program.end()


def case_memory_high_counts(directory):
    with Unit('high', directory, 'MEMLIMIT=80%', MemoryMax='256M', MemoryHigh='128M') as program:
        assert program.stat()['limit'] == 128 * MIB * 80 // 100
        program.wait_for_log(f'128 MiB, by {GROUPS}/system.slice/high.service/memory.high')
        # Held below memory.high: the kernel has never throttled it.
        assert program.ask('fill 300') > 40, program.stat()
        events = dict(line.split() for line in
                      (GROUPS / 'system.slice/high.service/memory.events').read_text().splitlines())
        assert (events['high'], events['max'], events['oom_kill']) == ('0', '0', '0'), events
        program.set_property('MemoryHigh=infinity')
        program.wait_for_limit(256 * MIB * 80 // 100)
        program.end()


def case_tightest_slice_counts(directory):
    slices = {'outer_slice': '[Slice]\nMemoryMax=300M\n', 'outer-inner_slice': '[Slice]\nMemoryMax=400M\n'}
    inner = {'Slice': 'outer-inner.slice', 'MemoryMax': '500M'}
    with unit_files(**slices), Unit('nested', directory, 'MEMLIMIT=80%', **inner) as program:
        assert program.stat()['limit'] == 300 * MIB * 80 // 100, program.stat()
        program.wait_for_log(f'300 MiB, by {GROUPS}/outer.slice/memory.max')
        # What answers to that limit: a neighbour in the outer slice counts.
        with Unit('neighbour', directory, 'MEMLIMIT=off', Slice='outer.slice') as neighbour:
            neighbour.ask('hold 100')
            program.ask('hold 5')
            wait_for('the neighbour to count', lambda: program.stat()['paced'] > 100 * MIB)
            neighbour.end()
        run('systemctl', 'set-property', '--runtime', 'outer-inner.slice', 'MemoryMax=200M')
        program.wait_for_limit(200 * MIB * 80 // 100)
        program.set_property('MemoryMax=150M')
        program.wait_for_limit(150 * MIB * 80 // 100)
        program.end()


def case_scope(directory):
    script = f'exec systemd-run --quiet --scope --unit=bounded --property=MemoryMax=100M env MEMLIMIT=50% ' \
             f'LD_PRELOAD={OPT}/libmemlimit.so MEMLIMIT_LOG=info {CACHE}'
    done = subprocess.run(['sh', '-c', script], input='quit\n', stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    assert done.returncode == 0 and f' to={50 * MIB} by=environment' in done.stderr, done


def case_cache_is_held_below_the_group(directory):
    with Unit('hold', directory, 'MEMLIMIT=85%', MemoryMax='128M') as program:
        held = program.ask('fill 1000')
        stat = program.stat()
        assert stat['rounds'] > 0 and stat['reclaimed'] > 500 * MIB and held > 40, (held, stat)
        program.end()


def case_unit_of_the_readme(directory):
    with server('server') as command, unit_files(server_service=readme_unit(command)):
        run('systemctl', 'start', 'server.service')
        assert socket_of('server.service').parent == pathlib.Path('/run/memlimit/server')
        assert stat_of('server.service')['limit'] == 512 * MIB * 80 // 100
        # Its user, and in the column CONTAINER its unit.
        assert re.search(r'^ *\d+ +root +server +server ', memlimit('ps'), re.M), memlimit('ps')
        run('systemctl', 'restart', 'server.service')
        path = socket_of('server.service')
        run('systemctl', 'stop', 'server.service')
        assert not path.parent.exists(), path
        assert properties('server.service', 'Result') == {'Result': 'success'}


def case_two_units_with_sockets(directory):
    """The units of two users; what one does with its directory must not take the other's socket away."""
    with contextlib.ExitStack() as stack:
        units = {}
        for name, user in (('first', 'daemon'), ('second', 'games')):
            command = stack.enter_context(server(name))
            units[f'{name}_service'] = readme_unit(command) + f'User={user}\n'
        stack.enter_context(unit_files(**units))
        run('systemctl', 'start', 'first.service', 'second.service')
        first, second = socket_of('first.service'), socket_of('second.service')
        assert first.is_relative_to('/run/memlimit') and second.is_relative_to('/run/memlimit'), (first, second)
        for again in ('restart', 'stop'):
            run('systemctl', again, 'first.service')
            assert second.is_socket(), f'{second} is gone after {again}'
        assert stat_of('second.service')['limit'] == 512 * MIB * 80 // 100
        run('systemctl', 'restart', 'second.service')
        second = socket_of('second.service')
        assert second.is_relative_to('/run/memlimit'), second


def case_hardened_unit(directory):
    """A service that may see and do next to nothing: the limit is that of its group, and its socket answers."""
    hardening = """DynamicUser=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
ProtectControlGroups=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX
LockPersonality=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""
    with server('hardened') as command, unit_files(hardened_service=readme_unit(command) + hardening):
        run('systemctl', 'start', 'hardened.service')
        assert socket_of('hardened.service').is_relative_to('/run/memlimit')
        assert stat_of('hardened.service')['limit'] == 512 * MIB * 80 // 100
        log = run('journalctl', '--unit=hardened.service', '--output=cat')
        assert 'memlimit' not in log.replace('memlimit-run', ''), log


def ends_of(name, command, *settings, **limits):
    """How a service with these limits ends: (systemd's word, exit status or signal, what it wrote)."""
    done = subprocess.run(
        ['systemd-run', '--wait', '--pipe', '--collect', '--quiet', f'--unit={name}', *settings,
         *(f'--property={key}={value}' for key, value in limits.items()), *map(str, command)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = run('journalctl', f'--unit={name}.service', '--output=cat', check=False)
    return done.returncode, "oom-kill" in journal, done.stdout, done.stderr


def dies_without_and_ends_with(command, limit, share='80%'):
    limits = {'MemoryMax': limit, 'MemorySwapMax': '0'}
    status, killed, output, _ = ends_of('plain', command, **limits)
    assert status != 0 and killed and 'done' not in output, (status, killed, output)
    status, killed, output, errors = ends_of('limited', [OPT / 'memlimit-run', '-l', share, '--', *command], **limits)
    assert (status, killed, output) == (0, False, 'done\n'), (status, killed, output, errors)


def case_python_cycles_in_a_unit(directory):
    dies_without_and_ends_with(['/usr/bin/python3', CYCLES, 'large', '60000'], '160M')


CASES = {name[len('case_'):]: case for name, case in globals().items() if name.startswith('case_')}
# In groups that the test makes itself.
GROUP_CASES = {f'group_{name}': case for name, case in containers.CASES.items()}
# Memory that is given back out of the middle of huge pages stays charged to the group, and the small cache gives more than
# this case allows: "Containers" in scripts/README.md.
WITHOUT_HUGE_PAGES = ['group_large_and_small_share']
HUGE_PAGES = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


def run_case(name):
    directory = pathlib.Path(tempfile.mkdtemp(prefix='memlimit-'))
    try:
        HUGE_PAGES.write_text('madvise' if name in WITHOUT_HUGE_PAGES else 'always')
        if name in CASES:
            CASES[name](directory)
        else:
            GROUP_CASES[name](BUILD, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def read_programs():
    """Has the pages of programs' files charged to this group, where they stay. In a group whose own they are, the kernel
    reads them again and again for minutes before it kills."""
    for pattern in ('bin/perl', 'bin/python3*', 'lib/x86_64-linux-gnu/ld-linux*', 'lib/x86_64-linux-gnu/lib[cmz].so*',
                    'lib/x86_64-linux-gnu/libcrypt.so*'):
        for path in pathlib.Path('/usr').glob(pattern):
            path.read_bytes()


def main():
    read_programs()
    # As users have it: where README's recipes look for it.
    shutil.copytree(PAYLOAD / 'memlimit', OPT)
    (GROUPS / 'cgroup.subtree_control').write_text('+memory')
    UNITS.mkdir(parents=True, exist_ok=True)
    words = (PAYLOAD / 'arguments').read_text().split()
    names = [word for word in words if word != '--short']
    names = names or (SHORT if '--short' in words else [*CASES, *GROUP_CASES])
    failed = 0
    for name in names:
        began = time.monotonic()
        try:
            run_case(name)
            print(f'ok {name} ({time.monotonic() - began:.1f} s)', flush=True)
        except Exception as error:  # one that fails must not hide the others
            why = ' '.join(f'{type(error).__name__}: {error}'.split())
            print(f'not ok {name}: {why}', flush=True)
            failed += 1
    print(f'end: {len(names) - failed} passed, {failed} failed', flush=True)


if __name__ == '__main__':
    main()
