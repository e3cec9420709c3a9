"""A cache server in plain Python, as anybody would write it: the demonstration's second program.

Lines over TCP: `store N SIZE`, `count`, `ping`. With --hook it registers, by bindings/python/memlimit.py, a
function that drops the oldest entries when memory is wanted back; it runs on this program's own event loop, so that it
needs no lock.
"""

import asyncio
import collections
import pathlib
import signal
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bindings" / "python"))
import memlimit  # noqa: E402

cache = collections.OrderedDict()
stored = 0


def drop_oldest(request):
    freed = 0
    while cache and freed < request.wanted_bytes:
        freed += sys.getsizeof(cache.popitem(last=False)[1])
    return freed


def register_hook():
    memlimit.add_hook(drop_oldest, "cache")
    memlimit.attach()


def answer(line):
    global stored
    match line.split():
        case [b"store", count, size]:
            for _ in range(int(count)):
                cache[stored] = bytes(int(size))
                stored += 1
            return b"stored"
        case [b"count"]:
            return b"%d" % len(cache)
        case [b"ping"]:
            return b"pong"
    return b"what?"


async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(answer(line) + b"\n")
        await writer.drain()
    writer.close()


async def main():
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    if "--hook" in sys.argv:
        register_hook()
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await done.wait()
    server.close()


asyncio.run(main())
