"""The bundle of scripts/bundle runs where nothing is installed.

usage: bundle_test.py BUILD_DIR

Looks at what its files ask glibc for. Unpacks the archive into a fresh directory and starts programs
through its launcher with an empty environment. Then, where debootstrap and a mirror are there (and root),
does the same inside a minimal Debian 12 root, in a memory group, and holds a Python at its limit in roots of Debian 11
and 13, and here. debian_root.py keeps the roots.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

from debian_root import PATH, debian_11, debian_13, minimal_root

MIB = 1 << 20
HIERARCHY = pathlib.Path('/sys/fs/cgroup/memory')
# Prints what the loader mapped. Nothing but the shell is needed.
SHOW_MAPS = 'while read -r line; do case $line in *.so*) echo "$line";; esac; done </proc/self/maps'
PERL = 'my @a; push @a, "x" x 65536 for 1..400; print scalar(@a), "\\n"; ' \
       'open my $f, "<", "/proc/self/maps"; print grep {/libm(emlimit|imalloc)/} <$f>'


# The oldest glibc that the archive is for: that of RHEL 8.
OLDEST_GLIBC = (2, 28)
NEEDED = re.compile(r'lib(c\.so\.6|dl\.so\.2|pthread\.so\.0|mimalloc\.so\.\d)|ld-linux-[\w-]+\.so\.\d')
# Cycles that nobody collects: three times the limit. Then what the kernel has seen, and what the tool says meanwhile.
CYCLES = """
import gc, json, os, subprocess, sys
gc.disable()
for i in range(3000):
    cycle = [bytearray(65536)]
    cycle.append(cycle)
status = open('/proc/self/status').read()
peak_kb = int(status.split('VmHWM:')[1].split()[0])
rows = []
if len(sys.argv) > 1:
    rows = subprocess.run([sys.argv[1], 'ps', '--json'], env={'PATH': os.environ['PATH']}, capture_output=True)
    if rows.returncode != 0 or rows.stderr:
        sys.exit('ps: %d %s' % (rows.returncode, rows.stderr.decode()))
    rows = json.loads(rows.stdout)
print(json.dumps({'pid': os.getpid(), 'peak_kb': peak_kb, 'rows': rows}))
"""


def run(command, **more):
    return subprocess.run(command, text=True, capture_output=True, timeout=600, check=False, **more)


def expect(condition, what, result=None):
    if not condition:
        said = f'\n{result.args}\nstatus {result.returncode}\n{result.stdout}\n{result.stderr}' if result else ''
        raise AssertionError(what + said)


def make_bundle(build, directory):
    script = pathlib.Path(__file__).resolve().parent.parent / 'scripts' / 'bundle'
    archives = []
    for name, umask in (('one', 0o022), ('two', 0o077)):
        result = run([str(script), '-o', str(directory / name), str(build)],
                     preexec_fn=lambda umask=umask: os.umask(umask))
        expect(result.returncode == 0, 'scripts/bundle failed', result)
        archives.append(pathlib.Path(result.stdout.strip()))
    expect(archives[0].read_bytes() == archives[1].read_bytes(), 'two runs give two archives')
    return archives[0]


def unpack(archive, where):
    with tarfile.open(archive) as tar:
        tops = {name.split('/')[0] for name in tar.getnames()}
        expect(len(tops) == 1, f'more than one directory at the top: {tops}')
        # Our own archive, made a moment ago. Python 3.14 would change modes; before 3.11.4 there is nothing to choose.
        if hasattr(tarfile, 'fully_trusted_filter'):
            tar.extraction_filter = tarfile.fully_trusted_filter
        tar.extractall(where)
    return where / tops.pop()


def is_elf(path):
    with path.open('rb') as file:
        return file.read(4) == b'\x7fELF'


def check_versions(bundle):
    """What the loader looks for: libraries that every glibc has, and no version that an old one has not."""
    asked = {}
    for path in filter(is_elf, filter(pathlib.Path.is_file, bundle.rglob('*'))):
        result = run(['readelf', '-d', '-V', '-W', str(path)])
        expect(result.returncode == 0, 'readelf failed', result)
        for name in re.findall(r'\(NEEDED\).*\[(.*)\]', result.stdout):
            expect(NEEDED.fullmatch(name), f'{path.name} needs {name}')
        needs = result.stdout.partition('Version needs section')[2]
        asked[path.name] = set(re.findall(r'\bName: (\S+)', needs))
        for name in asked[path.name]:
            version = re.fullmatch(r'GLIBC_(\d+)\.(\d+)(\.\d+)?', name)
            expect(version, f'{path.name} asks for {name}')
            expect(tuple(map(int, version.groups()[:2])) <= OLDEST_GLIBC, f'{path.name} asks for {name}')
    with_versions = [name for name, versions in asked.items() if versions]
    expect(len(with_versions) == 2 and len(asked) == 3, f'not the files that were expected: {asked}')


def check_maps(text, inside, result):
    """Both libraries come from the bundle, whatever the system has installed."""
    for name in ('libmemlimit.so', 'libmimalloc.so'):
        paths = {line.split()[-1] for line in text.splitlines() if name in line}
        expect(paths and all(path.startswith(f'{inside}/') for path in paths),
               f'{name} comes from {paths or "nowhere"} and not from {inside}', result)


def check_in_place(bundle):
    launcher = str(bundle / 'memlimit-run')
    result = run([launcher, '--limit=64MiB', '/bin/sh', '-c', SHOW_MAPS], env={'PATH': PATH}, cwd='/')
    expect(result.returncode == 0, 'the shell failed', result)
    check_maps(result.stdout, str(bundle), result)
    result = run(['perl', '-e', PERL], env={
        'PATH': PATH, 'LD_PRELOAD': str(bundle / 'libmemlimit.so'), 'MEMLIMIT': '64MiB'}, cwd='/')
    expect(result.returncode == 0 and result.stdout.startswith('400\n'), 'perl failed', result)
    check_maps(result.stdout, str(bundle), result)
    result = run([str(bundle / 'memlimit'), 'doctor'], env={'PATH': PATH}, cwd='/')
    expect(f'{bundle / "libmemlimit.so"} loads' in result.stdout, 'the doctor does not find the library', result)
    result = run([launcher, '--limit=64MB', 'true'], env={'PATH': PATH})
    expect(result.returncode == 78, 'a bad limit was not refused', result)
    # From another directory, by a relative path and through a link.
    (bundle.parent / 'link').symlink_to(launcher)
    result = run(['./link', '-l', '64MiB', 'true'], env={'PATH': PATH}, cwd=bundle.parent)
    expect(result.returncode == 0, 'through a link it failed', result)
    expect(re.search(r'glibc 2\.\d+', (bundle / 'README').read_text(encoding='utf-8').replace('GLIBC', 'glibc')),
           'the README names no glibc version')


def check_in_minimal_root(archive):
    """In a chroot without mimalloc or libstdc++, and in a memory group of 256 MiB."""
    root, why_not = minimal_root()
    if root is None:
        print(f'the minimal root is left out: {why_not}')
        return
    expect(not list(root.glob('usr/lib/*/libmimalloc*')), 'the minimal root is not minimal')
    top = pathlib.Path(tempfile.mkdtemp(prefix='opt-', dir=root))
    group = HIERARCHY / f'memlimit-test-{os.getpid()}-bundle'
    try:
        bundle = unpack(archive, top)
        inside = '/' + str(bundle.relative_to(root))
        try:
            group.mkdir()
            (group / 'memory.limit_in_bytes').write_text(str(256 * MIB))
            enter = f'echo $$ >{group}/cgroup.procs || exit 99;'
        except OSError as error:
            print(f'without a memory group: {error}')
            enter = ''

        def in_root(*command):
            script = enter + ' mount --bind /proc "$0/proc" && ' \
                             'mount --rbind /sys "$0/sys" && exec chroot "$0" "$@"'
            return run(['unshare', '-m', '/bin/sh', '-c', script, str(root), *command],
                       env={'PATH': PATH})

        result = in_root(f'{inside}/memlimit-run', '-l', '80%', '/bin/sh', '-c', SHOW_MAPS)
        if 'unshare failed' in result.stderr or 'mount:' in result.stderr:
            print(f'the minimal root is left out: {result.stderr.strip()}')
            return
        expect(result.returncode == 0, 'the shell failed', result)
        check_maps(result.stdout, inside, result)
        result = in_root(f'{inside}/memlimit-run', '-l', '80%', '--log=info', 'perl', '-e', PERL)
        expect(result.returncode == 0 and result.stdout.startswith('400\n'), 'perl failed', result)
        check_maps(result.stdout, inside, result)
        if enter:
            expect(f'to={256 * MIB * 80 // 100} ' in result.stderr,
                   'the limit is not 80 % of the group', result)
        print(f'a minimal root: sh and perl run, bundle {archive.stat().st_size / 1024:.0f} KiB')
    finally:
        shutil.rmtree(top, ignore_errors=True)
        if group.exists():
            group.rmdir()


def held(in_root, top, has_profile):
    """A program reaches its limit and no more, and the tool sees it. (MiB without, MiB with), or what is in the way of a root."""
    result = in_root('python3', '-c', CYCLES)
    if 'unshare failed' in result.stderr or 'mount:' in result.stderr:
        return None, result.stderr.strip()
    expect(result.returncode == 0, 'python3 failed', result)
    without_kb = json.loads(result.stdout)['peak_kb']
    expect(without_kb > 180 * 1024, 'too little garbage', result)
    result = in_root(f'{top}/memlimit-run', '-l', '64MiB', 'python3', '-c', CYCLES, f'{top}/memlimit')
    expect(result.returncode == 0 and not result.stderr, 'python3 failed under the library', result)
    said = json.loads(result.stdout)
    expect(said['peak_kb'] < 80 * 1024, 'the limit is not held', result)
    rows = [row for row in said['rows'] if row['pid'] == said['pid']]
    expect(len(rows) == 1 and rows[0]['limit'] == 64 * MIB, 'memlimit ps does not show the limit', result)
    result = in_root(f'{top}/memlimit-run', '-l', '64MiB', '--profile=on', '/bin/true')
    expect(result.returncode == 0, 'true failed under the library', result)
    expect(('MEMLIMIT_PROFILE stays off: it needs glibc 2.35' in result.stderr) != has_profile,
           'what is said of the profile is not so', result)
    return (without_kb // 1024, said['peak_kb'] // 1024), ''


def check_in_root(archive, name, found, has_profile):
    """In a root of another release, which has Python."""
    root, why_not = found
    if root is None:
        print(f'{name} is left out: {why_not}')
        return
    top = pathlib.Path(tempfile.mkdtemp(prefix='opt-', dir=root))
    try:
        def in_root(*command):
            script = 'mount --bind /proc "$0/proc" && exec chroot "$0" "$@"'
            return run(['unshare', '-m', '/bin/sh', '-c', script, str(root), *command], env={'PATH': PATH})

        peaks, why_not = held(in_root, '/' + str(unpack(archive, top).relative_to(root)), has_profile)
        print(f'{name}: python3 reaches {peaks[0]} MiB without, {peaks[1]} MiB at 64 MiB' if peaks else
              f'{name} is left out: {why_not}')
    finally:
        shutil.rmtree(top, ignore_errors=True)


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix='memlimit-bundle-') as name:
        directory = pathlib.Path(name)
        archive = make_bundle(build, directory)
        bundle = unpack(archive, directory)
        check_versions(bundle)
        check_in_place(bundle)
        check_in_minimal_root(archive)
        check_in_root(archive, 'Debian 11', debian_11(), has_profile=False)
        check_in_root(archive, 'Debian 13', debian_13(), has_profile=True)
        peaks, _ = held(lambda *command: run(command, env={'PATH': PATH}), bundle, has_profile=True)
        print(f'here: python3 reaches {peaks[0]} MiB without, {peaks[1]} MiB at 64 MiB')
    print('ok')


if __name__ == '__main__':
    main()
