"""A cache server in plain Python, as anybody would write it: the demonstration's second program.

Lines over TCP: `store N SIZE`, `count`, `ping`. With --hook it registers, through the C interface of
libmemlimit.so, a function that drops the oldest entries when memory is wanted back; it runs inside
memlimit_poll() on this program's own event loop, so that it needs no lock.
"""

import asyncio
import collections
import ctypes
import signal
import sys

cache = collections.OrderedDict()
stored = 0


class Request(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("wanted_bytes", ctypes.c_int64),
        ("usage_bytes", ctypes.c_int64),
        ("limit_bytes", ctypes.c_int64),
        ("level", ctypes.c_int),
        ("deadline_ns", ctypes.c_uint64),
        ("round", ctypes.c_uint64),
    ]


Reclaim = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(Request), ctypes.c_void_p)


class Hook(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("context", ctypes.c_int),
        ("reclaim", Reclaim),
        ("arg", ctypes.c_void_p),
    ]


MEMLIMIT_POLL = 1


@Reclaim
def drop_oldest(request, _):
    freed = 0
    while cache and freed < request.contents.wanted_bytes:
        freed += sys.getsizeof(cache.popitem(last=False)[1])
    return freed


def register_hook(loop):
    memlimit = ctypes.CDLL(None)
    identifier = ctypes.c_uint64()
    hook = Hook(ctypes.sizeof(Hook), b"cache", MEMLIMIT_POLL, drop_oldest, None)
    if memlimit.memlimit_hook_add(ctypes.byref(hook), ctypes.byref(identifier)) != 0:
        sys.exit("memlimit_hook_add failed")
    loop.add_reader(memlimit.memlimit_poll_fd(), memlimit.memlimit_poll)


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
        register_hook(loop)
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await done.wait()
    server.close()


asyncio.run(main())
