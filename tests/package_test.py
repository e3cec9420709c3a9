"""The Debian package of scripts/package: the same bytes each time, without complaint, installed and removed.

usage: package_test.py BUILD_DIR

Installs the package with dpkg into a copy of a minimal root of this machine's Debian release, with what it depends on and
Python; on Debian 12 that is the root that debian_root.py keeps ($MEMLIMIT_MINBASE, /var/tmp/memlimit-minbase), on another
/var/tmp/memlimit-minbase-CODENAME. That part is left out where there is no such root and none can be made.
Skipped with status 77 without dpkg-deb or lintian.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from bundle_test import expect, run
from debian_root import PATH, debian_root, minimal_root

SOURCE = pathlib.Path(__file__).resolve().parent.parent
# Python's garbage in cycles, far more than the limit, and the figures of its own process, as the tool tells them.
GARBAGE = """
import gc, subprocess, sys
gc.disable()
for _ in range(100_000):
    cycle = [bytes(4_000)]
    cycle.append(cycle)
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
print(subprocess.run(['memlimit', 'ps'], env={}, stdout=subprocess.PIPE, text=True, check=True).stdout, end='')
"""


def make_packages(build, directory):
    """Twice of the build, the second time from another directory and with another umask."""
    packages = []
    for name, umask in (('one', 0o022), ('two', 0o077)):
        result = run([str(SOURCE / 'scripts' / 'package'), '-o', str(directory / name), str(build)],
                     preexec_fn=lambda umask=umask: os.umask(umask), cwd=directory if name == 'two' else SOURCE)
        expect(result.returncode == 0, 'scripts/package failed', result)
        packages.append(pathlib.Path(result.stdout.strip()))
    expect(packages[0].read_bytes() == packages[1].read_bytes(), 'two runs give two packages')
    return packages[0]


def check_content(build, package):
    """Every file that `meson install` would install is there, and the version is that of meson.build."""
    version = re.search(r"version: '(.+)'", (SOURCE / 'meson.build').read_text(encoding='utf-8'))[1]
    result = run(['dpkg-deb', '--field', str(package), 'Version'])
    expect(result.stdout.strip() == version, f'the version is not {version}', result)
    result = run(['dpkg-deb', '--contents', str(package)])
    names = [line.split()[5] for line in result.stdout.splitlines()]
    plan = run(['meson', 'introspect', '--installed', str(build)])
    expect(plan.returncode == 0, 'no list of what is installed', plan)
    wanted = {name.rpartition('"')[2] for name in re.findall(r': "(?:/[^"/]+)*/([^"/]+)"', plan.stdout)}
    expect(len(wanted) > 10, f'too few are installed: {wanted}', plan)
    there = {pathlib.Path(name).name.removesuffix('.gz') for name in names}
    expect(wanted <= there, f'missing: {wanted - there}', result)
    expect(not [name for name in names if name.startswith('./usr/local')], 'files below /usr/local', result)


def check_without_complaint(package):
    result = run(['lintian', '--allow-root', '--fail-on', 'error,warning', str(package)])
    expect(result.returncode == 0, 'lintian complains', result)


def root_of_this_release():
    release = re.search(r'^VERSION_CODENAME=(\w+)$', pathlib.Path('/etc/os-release').read_text(encoding='utf-8'), re.M)[1]
    if release == 'bookworm':
        return minimal_root()
    return debian_root(f'MEMLIMIT_MINBASE_{release.upper()}', f'/var/tmp/memlimit-minbase-{release}', release, 'perl')


def check_installed(package, directory):
    """In a copy of the minimal root: held at its limit, seen by the tool, and gone without a trace."""
    minimal, why_not = root_of_this_release()
    if os.geteuid() != 0 or minimal is None:
        print(f'not installed: {why_not or "not root"}')
        return
    needed = run(['dpkg-deb', '--field', str(package), 'Depends']).stdout
    libraries = [word.split()[0] for word in needed.split(',')]
    root = directory / 'root'
    result = run(['cp', '-a', '--reflink=auto', str(minimal), str(root)])
    expect(result.returncode == 0, 'the minimal root cannot be copied', result)

    def in_root(*command):
        script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        return run(['unshare', '-m', '-p', '-f', '/bin/sh', '-c', script, str(root), *command],
                   env={'PATH': PATH, 'DEBIAN_FRONTEND': 'noninteractive'})

    def files():
        found = in_root('find', '/', '-xdev', '(', '-path', '/proc', '-o', '-path', '/var', ')', '-prune', '-o', '-print')
        expect(found.returncode == 0, 'no list of the files', found)
        return set(found.stdout.splitlines())

    if in_root('true').returncode != 0:
        print('not installed: no namespaces here')
        return
    shutil.copy('/etc/resolv.conf', root / 'etc/resolv.conf')
    install = 'apt-get -q update && apt-get -q install -y --no-install-recommends "$@"'
    result = in_root('sh', '-c', install, 'sh', 'python3', *libraries)
    if result.returncode != 0:
        print(f'not installed: apt-get failed: {result.stderr.strip().splitlines()[-1:]}')
        return
    before = files()
    shutil.copy(package, root / 'memlimit.deb')
    result = in_root('dpkg', '--install', '/memlimit.deb')
    (root / 'memlimit.deb').unlink()
    expect(result.returncode == 0, 'it cannot be installed', result)
    result = in_root('memlimit-run', '-l', '64MiB', '--', 'python3', '-c', GARBAGE)
    expect(result.returncode == 0 and result.stderr == '', 'python3 failed under it', result)
    peak_kib, _, seen = result.stdout.partition('\n')
    expect(int(peak_kib) < 128 << 10, f'{peak_kib} KiB at a limit of 64 MiB', result)
    expect(re.search(r'python3 .* 64 MiB ', seen), 'memlimit ps does not see it', result)
    result = in_root('memlimit-run', '-l', 'off', '--', 'python3', '-c', GARBAGE)
    expect(int(result.stdout.partition('\n')[0]) > 256 << 10, 'it stays small without a limit, too', result)
    result = in_root('memlimit-run', '-l', '64MB', 'true')
    expect(result.returncode == 78, 'a bad limit was not refused', result)
    result = in_root('dpkg', '--purge', 'memlimit')
    expect(result.returncode == 0, 'it cannot be removed', result)
    # The directory for sockets is the processes', on a tmpfs elsewhere; the root may have it from a test before.
    left = files() - before - {'/run/memlimit'}
    expect(not left, f'left behind: {sorted(left)}')
    print('installed, used and removed in a minimal root')


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    for tool in ('dpkg-deb', 'dpkg-shlibdeps', 'lintian'):
        if shutil.which(tool) is None:
            print(f'skipped: no {tool}')
            sys.exit(77)
    with tempfile.TemporaryDirectory(prefix='memlimit-package-') as directory:
        package = make_packages(build, pathlib.Path(directory))
        check_content(build, package)
        check_without_complaint(package)
        check_installed(package, pathlib.Path(directory))


if __name__ == '__main__':
    main()
