"""Real programs for arm64 by qemu: the cases of tests/adapters that are named, and that what perl says is the same.

usage: programs.py BUILD_DIR CASE...

What qemu holds for itself, its translations above all, is in the kernel's figures for the process: limits and peaks have it
beside the program's own. How much it is, is measured.
"""

import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'adapters'))
import adapters_test  # noqa: E402

MIB = 1 << 20
PERL = 'my %h; for my $i (1 .. 60000) { $h{$i} = "v" x ($i % 300) } my $n = 0; ' \
       'for my $k (sort { $a <=> $b } keys %h) { $n = ($n * 31 + length $h{$k}) % 1000003 } print "$n\\n"'


def of_qemu():
    """MiB that a program which does next to nothing is said to hold."""
    command = [adapters_test.PYTHON, '-c', adapters_test.PEAK + 'import re, json, ctypes\nprint(peak_mib())']
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


class Bench(adapters_test.Bench):
    """With as much more as qemu takes."""

    more_mib = 0

    def run(self, command, limit='64MiB', **settings):
        return super().run(command, limit=f'{int(limit[:-3]) + self.more_mib}MiB', **settings)

    def number(self, *arguments, **settings):
        value, ended = super().number(*arguments, **settings)
        return value - self.more_mib, ended


def case_perl_says_the_same(bench):
    said = [bench.run(['perl', '-e', PERL], limit=limit, **settings)
            for limit, settings in (('64MiB', {'LD_PRELOAD': ''}), ('640MiB', {}), ('1MiB', {}))]
    expected = (0, said[0].output, said[0].errors)
    assert all((ended.status, ended.output, ended.errors) == expected for ended in said), said


def case_redis_gives_back(bench):
    """What `redis_is_told_the_truth` asks, but for used_memory_rss: in qemu's /proc/self/stat that is 0."""
    redis = adapters_test.Redis(bench)
    try:
        deadline = time.monotonic() + adapters_test.PATIENCE_S
        while 'PONG' not in redis.ask('ping'):
            assert redis.server.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        redis.ask('eval', "for i = 1, 60000 do redis.call('set', i, string.rep('x', 1000)) end", '0')
        full = redis.memory()
        assert full['used_memory'] > 60e6, full
        assert full['allocator_allocated'] <= full['allocator_active'] <= full['allocator_resident'], full
        redis.ask('flushall')
        assert redis.ask('memory', 'purge') == 'OK\n'
        redis.memory(lambda now: full['allocator_resident'] - now['allocator_resident'] > 50e6)
        redis.ask('shutdown', 'nosave')
        assert redis.server.wait(adapters_test.PATIENCE_S) == 0
    finally:
        redis.server.kill()
        redis.server.wait()


def main():
    Bench.more_mib = of_qemu()
    print(f'qemu holds {Bench.more_mib} MiB', flush=True)
    adapters_test.Bench = Bench
    adapters_test.CASES.update(perl_says_the_same=case_perl_says_the_same, redis_gives_back=case_redis_gives_back)
    adapters_test.main()


if __name__ == '__main__':
    main()
