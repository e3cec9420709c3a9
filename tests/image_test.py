"""Images as people build and run them: the Dockerfile of scripts/README.md, and one without a distribution.

usage: image_test.py BUILD_DIR [CASE...]

buildah builds the images from the minimal Debian root of bundle_test.py, by the names that the Dockerfile gives; nothing
is pulled. What it made is then run as a container is: pid 1 in namespaces of its own, another user, a read-only root, a
memory group. By unshare and chroot, and by runc where that is installed. Skipped (status 77) without root, buildah or
such a root; `apt-get install buildah runc` brings what is missing.
"""

import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import bundle_test
from bundle_test import expect, run
import containers_test

MIB = 1 << 20
PATIENCE_S = 120  # only a test that fails waits this long
SERVER_BYTES = 32 * MIB  # images/server.c
HERE = pathlib.Path(__file__).resolve().parent
GROUP_BYTES = 256 * MIB
USER = 1000
# Of Debian's base image too, and much of its size.
NOT_NEEDED = ('var/lib/apt/lists', 'var/cache', 'usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/i18n')


def skip(reason):
    print(f'skipped: {reason}')
    sys.exit(77)


def done(command, **more):
    result = run(command, **more)
    expect(result.returncode == 0, f'{command[0]} failed', result)
    return result.stdout.strip()


class Buildah:
    """buildah with a storage of its own, which knows no registry and needs no privilege but root's."""

    def __init__(self, directory):
        self.directory = directory
        (directory / 'registries.conf').write_text('unqualified-search-registries = []\nshort-name-mode = "disabled"\n')
        (directory / 'policy.json').write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
        self.environment = {
            'PATH': bundle_test.PATH, 'HOME': str(directory), 'TMPDIR': str(directory),
            'CONTAINERS_REGISTRIES_CONF': str(directory / 'registries.conf'), 'BUILDAH_ISOLATION': 'chroot',
            'STORAGE_DRIVER': 'vfs',
        }

    def __call__(self, *arguments):
        storage = [f'--root={self.directory / "storage"}', f'--runroot={self.directory / "run"}', '--storage-driver=vfs']
        return done(['buildah', *storage, *arguments], env=self.environment)

    def import_root(self, archive, *names):
        """An image of a tar archive, as a base image is one; with all of these names."""
        container = self('from', 'scratch')
        self('add', '--quiet', container, str(archive), '/')
        policy = f'--signature-policy={self.directory / "policy.json"}'
        image = self('commit', '--quiet', policy, '--rm', container, names[0])
        for name in names[1:]:
            self('tag', image, name)

    def build(self, dockerfile, context, name):
        (context / 'Dockerfile').write_text(dockerfile)
        policy = f'--signature-policy={self.directory / "policy.json"}'
        self('bud', '--quiet', '--isolation=chroot', '--network=host', '--pull-never', policy, '-t', name, str(context))

    @contextlib.contextmanager
    def mounted(self, image):
        """The image's files, to be changed at will, and its configuration."""
        container = self('from', '--pull-never', f'--signature-policy={self.directory / "policy.json"}', image)
        try:
            config = json.loads(self('inspect', '--type=image', image))['OCIv1']['config']
            yield pathlib.Path(self('mount', container)), config
        finally:
            self('umount', container)
            self('rm', container)


class Container:
    """A process that is first in its namespaces, as the image's configuration has it, or with other words and settings.
    `shown` has directories of this machine and where they are seen inside."""

    def __init__(self, runtime, image, group, words=None, shown=(), **settings):
        self.name = group.name
        self.directory = tempfile.TemporaryDirectory(prefix='memlimit-image-')
        # As engines do, where an image names none.
        environment = {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}
        environment.update(setting.split('=', 1) for setting in image.config.get('Env', []))
        environment.update(settings)
        command = image.config['Entrypoint'] + (image.config['Cmd'] if words is None else words)
        user = int(image.config['User'])
        start = by_runc if runtime == 'runc' else by_hand
        more = {'env': environment} if runtime != 'runc' else {'env': {'PATH': bundle_test.PATH}}
        self.runtime = runtime
        self.process = subprocess.Popen(
            start(self, image.root, command, environment, user, shown, group), text=True, bufsize=1, **more,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                os.kill(self.pid(), signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        self.directory.cleanup()

    def pid(self):
        """The process's number out here."""
        if self.runtime == 'runc':
            return json.loads(done(['runc', 'state', self.name]))['pid']
        parent = self.process.pid
        return int(pathlib.Path(f'/proc/{parent}/task/{parent}/children').read_text().split()[0])

    def expect_line(self, line):
        got = self.process.stdout.readline().strip()
        if got != line:
            said = self.process.stderr.read() if self.process.wait() is not None else ''
            raise AssertionError(f'{got!r} instead of {line!r}; status {self.process.returncode}, {said}')

    def expect_end(self, status, *said):
        """Exactly these words on standard error, if none is named nothing."""
        out, error = self.process.communicate(timeout=PATIENCE_S)
        shown = f'status {self.process.returncode}, {out!r}, {error!r}'
        expect(self.process.returncode == status, f'status {status} was expected: {shown}')
        expect(bool(error) == bool(said) and all(words in error for words in said), f'{said} was expected: {shown}')

    def kill(self, number):
        os.kill(self.pid(), number)


def by_hand(_, root, command, __, user, shown, group):
    """What a runtime does, in the shell's words; a chroot instead of a pivot."""
    binds = ''.join(f'/usr/bin/mount --bind {outside} "$root{inside}"; ' for outside, inside in shown)
    enter = f'echo $$ >{group.path}/cgroup.procs; ' if group.path else ''
    script = (
        f'set -e; root=$1; shift; {enter}/usr/bin/mount --bind "$root" "$root"; '
        '/usr/bin/mount -o remount,bind,ro "$root"; /usr/bin/mount -t proc proc "$root/proc"; '
        f'/usr/bin/mount --rbind /sys "$root/sys"; {binds}/usr/bin/hostname server; '
        f'exec /usr/sbin/chroot --userspec={user}:{user} --groups={user} "$root" "$@"')
    namespaces = ['--mount', '--pid', '--fork', '--ipc', '--uts', '--net']
    return ['/usr/bin/unshare', *namespaces, '/bin/sh', '-c', script, 'sh', str(root), *command]


def by_runc(container, root, command, environment, user, shown, _):
    binds = [{'destination': inside, 'source': str(outside), 'type': 'bind', 'options': ['rbind', 'rw']}
             for outside, inside in shown]
    config = {
        'ociVersion': '1.0.2',
        'hostname': 'server',
        'process': {'user': {'uid': user, 'gid': user}, 'args': command, 'cwd': '/', 'noNewPrivileges': True,
                    'env': [f'{key}={value}' for key, value in environment.items()],
                    'capabilities': {kind: [] for kind in ('bounding', 'effective', 'permitted')}},
        'root': {'path': str(root), 'readonly': True},
        'mounts': [
            {'destination': '/proc', 'type': 'proc', 'source': 'proc'},
            {'destination': '/dev', 'type': 'tmpfs', 'source': 'tmpfs', 'options': ['nosuid', 'mode=755']},
            {'destination': '/sys', 'type': 'sysfs', 'source': 'sysfs', 'options': ['nosuid', 'ro']},
            {'destination': '/sys/fs/cgroup', 'type': 'cgroup', 'source': 'cgroup', 'options': ['ro']}, *binds],
        'linux': {'namespaces': [{'type': kind} for kind in ('pid', 'mount', 'ipc', 'uts', 'network')],
                  'cgroupsPath': f'/{container.name}', 'resources': {'memory': {'limit': GROUP_BYTES}}},
    }
    (pathlib.Path(container.directory.name) / 'config.json').write_text(json.dumps(config))
    return ['runc', 'run', f'--bundle={container.directory.name}', container.name]


class Group:
    """The memory group of a container, gone when the with-block ends. runc makes its own, of the same name."""

    def __init__(self, runtime, name):
        self.name = f'memlimit-test-{os.getpid()}-{name}'
        self.path = None if runtime == 'runc' else containers_test.HIERARCHY / self.name

    def __enter__(self):
        if self.path is not None:
            self.path.mkdir()
            (self.path / containers_test.LIMIT_FILE).write_text(str(GROUP_BYTES))
        return self

    def __exit__(self, *_):
        def gone():
            with contextlib.suppress(OSError):
                self.path.rmdir()
            return not self.path.exists()

        if self.path is not None:
            containers_test.wait_for(f'{self.path} to be empty', gone)


class Image:
    """Files of an image, which may be changed, and what it says of how to run them."""

    def __init__(self, root, config):
        self.root, self.config = root, config


def figures_of(container):
    """What the tool on this machine reads of the process; an abstract name is one of its network namespace."""
    pid = str(container.pid())
    result = run(['nsenter', f'--net=/proc/{pid}/ns/net', TOOL, 'stat', pid], env={'PATH': bundle_test.PATH})
    expect(result.returncode == 0, 'no statistics', result)
    return dict(line.split(':\t', 1) for line in result.stdout.splitlines() if ':\t' in line)


def check_figures(container):
    figures = figures_of(container)
    limit_kb = int(figures['MemLimit'].split()[0])
    expect(limit_kb == GROUP_BYTES * 80 // 100 // 1024, f'the limit is not 80 % of the group: {limit_kb} kB')
    expect(int(figures['HeapAlloc'].split()[0]) >= SERVER_BYTES // 1024, f'the heap is not counted: {figures}')


def serve(container, *, figures=True):
    """The life of the server: it is pid 1, is asked, gets every signal and ends as it likes, without a line."""
    container.expect_line(f'pid 1 uid {USER} gid {USER}')
    if figures:
        check_figures(container)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        container.kill(number)
        container.expect_line(f'got {int(number)}')
    container.expect_end(7)


# --- cases; each gets a way to start the image, and the image ---


def serves_with_a_read_only_root(start, image):
    with start() as container:
        serve(container)


def serves_without_run_and_tmp(start, image):
    for name in ('run', 'tmp', 'var/run', 'var/tmp'):
        path = image.root / name
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
    with start() as container:
        serve(container)


def serves_without_statistics(start, image):
    with start(MEMLIMIT_SOCKET='off') as container:
        serve(container, figures=False)


def shows_its_socket_on_a_volume(start, image):
    """docker-compose's recipe: a volume of the same user."""
    (image.root / 'run' / 'memlimit').mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='memlimit-volume-') as name:
        os.chown(name, USER, USER)
        setting = {'MEMLIMIT_SOCKET': '/run/memlimit/%h-%p.sock'}
        with start(shown=[(name, '/run/memlimit')], **setting) as container:
            container.expect_line(f'pid 1 uid {USER} gid {USER}')
            path = pathlib.Path(name) / 'server-1.sock'
            containers_test.wait_for(path, path.exists)
            as_user = ['setpriv', f'--reuid={USER}', f'--regid={USER}', '--clear-groups', TOOL, 'stat', str(path)]
            expect('MemLimit:' in done(as_user, env={'PATH': bundle_test.PATH}), 'the sidecar reads nothing')
            container.kill(signal.SIGTERM)
            container.expect_line(f'got {int(signal.SIGTERM)}')
            container.expect_end(7)
            expect(not path.exists(), f'{path} was left')


def refuses_bad_settings(start, image):
    with start(MEMLIMIT='512MB') as container:
        container.expect_end(78, 'memlimit-run: MEMLIMIT="512MB"', 'did you mean 512MiB or 488MiB?')
    with start(MEMLIMIT_SOCKET='/no/such/s.sock') as container:
        container.expect_end(78, 'memlimit-run: MEMLIMIT_SOCKET: /no/such/s.sock: its directory does not exist')


def ends_as_a_shell_does(start, image):
    with start(['no-such-command']) as container:
        container.expect_end(127, 'memlimit-run: no-such-command: command not found')
    with start(['/no/such']) as container:
        container.expect_end(127, 'memlimit-run: /no/such: no such file')
    with start(['/opt/memlimit/README']) as container:
        container.expect_end(126, 'memlimit-run: /opt/memlimit/README: not executable')


def starts_scripts(start, image):
    """By their first line, with the library, and with their words."""
    script = image.root / 'usr' / 'local' / 'bin' / 'script'
    script.write_text('#!/usr/local/bin/server\n')
    script.chmod(0o755)
    with start(['script']) as container:
        serve(container)


CASES = (
    serves_with_a_read_only_root, serves_without_statistics, shows_its_socket_on_a_volume, refuses_bad_settings,
    ends_as_a_shell_does, starts_scripts, serves_without_run_and_tmp,
)


def make_context(build, directory):
    """What the Dockerfile copies."""
    directory.mkdir()
    archive = done([str(HERE.parent / 'scripts' / 'bundle'), '-o', str(directory), str(build)])
    server = directory / 'server'
    done(['cc', '-O1', '-o', str(server), str(HERE / 'images' / 'server.c')])
    # The files of an image without a distribution: what the loader needs for these programs, and where to mount.
    files = directory / 'files'
    needed = done(['ldd', str(server), str(build / 'preload' / 'relocatable' / 'libmemlimit.so')])
    for word in {word for word in needed.split() if word.startswith('/') and not word.endswith(':')}:
        if 'libmimalloc' not in word:  # of the bundle
            (files / word[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, files / word[1:])
    for name in ('proc', 'sys', 'dev'):
        (files / name).mkdir()
    return pathlib.Path(archive)


def make_images(buildah, build, directory):
    """The names of the images. Everything in them comes from here."""
    root, why_not = bundle_test.minimal_root()
    if root is None:
        skip(why_not)
    base = directory / 'base.tar'
    done(['tar', '-C', str(root), '--one-file-system', *(f'--exclude=./{name}/*' for name in NOT_NEEDED),
          '-cf', str(base), '.'])
    manual = (HERE.parent / 'scripts' / 'README.md').read_text(encoding='utf-8')
    dockerfile = re.search(r'```dockerfile\n(.*?)```', manual, re.S)[1]
    bases = set(re.findall(r'^FROM (\S+)', dockerfile, re.M))
    expect(len(bases) == 2 and 'debian:12-slim' in bases, f'another Dockerfile: {bases}')
    buildah.import_root(base, *(f'localhost/{name}' for name in sorted(bases)))
    base.unlink()
    make_context(build, directory / 'context')
    buildah.build(dockerfile, directory / 'context', 'localhost/server')
    bare, count = re.subn(r'^FROM debian:12-slim$', 'FROM scratch\nCOPY files /', dockerfile, flags=re.M)
    expect(count == 1, 'the Dockerfile has no such line')
    buildah.build(bare, directory / 'context', 'localhost/bare')
    return ('localhost/server', 'localhost/bare')


def runtimes():
    """Those that work here."""
    if shutil.which('runc', path=bundle_test.PATH):
        yield 'runc'
    if run(['unshare', '--mount', '--pid', '--fork', '--ipc', '--uts', '--net', 'true']).returncode == 0:
        yield 'unshare'


def run_cases(names, runtime, image_name, image):
    failed = 0
    for case in CASES:
        if names and case.__name__ not in names:
            continue
        with contextlib.ExitStack() as stack:
            def start(words=None, shown=(), **settings):
                group = stack.enter_context(Group(runtime, f'{len(started)}'))
                started.append(group)
                return Container(runtime, image, group, words, shown, **settings)

            started = []
            title = f'{case.__name__} ({image_name}, {runtime})'
            try:
                case(start, image)
                print(f'ok   {title}', flush=True)
            except (AssertionError, KeyError, OSError, ValueError, subprocess.SubprocessError) as error:
                failed += 1
                print(f'FAIL {title}: {error}', flush=True)
    return failed


def main():
    global TOOL
    build = pathlib.Path(sys.argv[1]).resolve()
    TOOL = str(build / 'scripts' / 'memlimit')
    if os.geteuid() != 0:
        skip('only root can run containers this way')
    if shutil.which('buildah', path=bundle_test.PATH) is None:
        skip('no buildah (apt-get install buildah runc)')
    if platform.machine() != 'x86_64':
        skip("the Dockerfile's archive is for x86-64")
    if not os.access(containers_test.HIERARCHY, os.W_OK):
        skip('no memory controller')
    ways = list(runtimes())
    if not ways:
        skip('neither runc nor unshare can make namespaces here')
    failed = 0
    with tempfile.TemporaryDirectory(prefix='memlimit-images-', dir='/var/tmp') as name:
        directory = pathlib.Path(name)
        buildah = Buildah(directory)
        for image_name in make_images(buildah, build, directory):
            for runtime in ways:
                with buildah.mounted(image_name) as (root, config):
                    failed += run_cases(sys.argv[2:], runtime, image_name, Image(root, config))
    sys.exit(failed > 0)


if __name__ == '__main__':
    main()
