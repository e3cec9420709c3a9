"""The bundle of scripts/bundle runs where nothing is installed.

usage: bundle_test.py BUILD_DIR

Unpacks the archive into a fresh directory and starts programs through its launcher with an empty
environment. Then, where debootstrap and a mirror are there (and root), does the same inside a minimal
Debian 12 root, in a memory group. That root is made once and kept in $MEMLIMIT_MINBASE
(/var/tmp/memlimit-minbase); set it to nothing to leave this part out.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

MIB = 1 << 20
PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
HIERARCHY = pathlib.Path('/sys/fs/cgroup/memory')
# Prints what the loader mapped. Nothing but the shell is needed.
SHOW_MAPS = 'while read -r line; do case $line in *.so*) echo "$line";; esac; done </proc/self/maps'
PERL = 'my @a; push @a, "x" x 65536 for 1..400; print scalar(@a), "\\n"; ' \
       'open my $f, "<", "/proc/self/maps"; print grep {/libm(emlimit|imalloc)/} <$f>'


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
        tar.extractall(where)  # our own archive, made a moment ago
    return where / tops.pop()


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


def minimal_root():
    place = os.environ.get('MEMLIMIT_MINBASE', '/var/tmp/memlimit-minbase')
    if not place:
        return None, 'MEMLIMIT_MINBASE is empty'
    root = pathlib.Path(place)
    if (root / 'bin' / 'sh').exists() and (root / 'usr' / 'bin' / 'perl').exists():
        return root, ''
    if os.geteuid() != 0 or shutil.which('debootstrap', path=PATH) is None:
        return None, 'no debootstrap, or not root'
    fresh = pathlib.Path(tempfile.mkdtemp(prefix=root.name, dir=root.parent))
    result = run(['debootstrap', '--variant=minbase', 'bookworm', str(fresh)], env={'PATH': PATH})
    if result.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        return None, 'debootstrap failed: ' + result.stdout.strip().rpartition('\n')[2]
    fresh.chmod(0o755)
    fresh.rename(root)
    return root, ''


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


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix='memlimit-bundle-') as name:
        directory = pathlib.Path(name)
        archive = make_bundle(build, directory)
        check_in_place(unpack(archive, directory))
        check_in_minimal_root(archive)
    print('ok')


if __name__ == '__main__':
    main()
