"""Minimal roots of Debian releases for tests that need one: made once by debootstrap, and kept.

A root lies where a variable says, or below /var/tmp; a variable that is set to nothing leaves out what needs its root.
"""

import fcntl
import os
import pathlib
import shutil
import subprocess
import tempfile

PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
PLACE = '/var/tmp/memlimit-roots'


def debian_root(variable, default, release, program, *options):
    """(root, ''), or (None, why there is none). Made where it has no such program."""
    place = os.environ.get(variable, default)
    if not place:
        return None, f'{variable} is empty'
    root = pathlib.Path(place)

    def is_there():
        return (root / 'bin' / 'sh').exists() and (root / 'usr' / 'bin' / program).exists()

    if is_there():
        return root, ''
    if os.geteuid() != 0 or shutil.which('debootstrap', path=PATH) is None:
        return None, 'no debootstrap, or not root'
    root.parent.mkdir(parents=True, exist_ok=True)
    # Another test may be making the same.
    with open(f'{root}.lock', 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_there():
            return root, ''
        fresh = pathlib.Path(tempfile.mkdtemp(prefix=root.name, dir=root.parent))
        result = subprocess.run(['debootstrap', '--variant=minbase', *options, release, fresh], env={'PATH': PATH}, text=True,
                                capture_output=True, timeout=600, check=False)
        if result.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            return None, 'debootstrap failed: ' + result.stdout.strip().rpartition('\n')[2]
        fresh.chmod(0o755)
        fresh.rename(root)
    return root, ''


def minimal_root():
    """Debian 12 without mimalloc or libstdc++."""
    return debian_root('MEMLIMIT_MINBASE', '/var/tmp/memlimit-minbase', 'bookworm', 'perl')


def debian_11():
    """With Python 3.9 and glibc 2.31."""
    return debian_root('MEMLIMIT_DEBIAN_11', f'{PLACE}/bullseye', 'bullseye', 'python3', '--include=python3')


def debian_13():
    """With Python 3.13 and Ruby 3.3. Not the root that other_release builds in."""
    return debian_root('MEMLIMIT_DEBIAN_13', f'{PLACE}/trixie-minbase', 'trixie', 'ruby3.3', '--include=python3,ruby')
