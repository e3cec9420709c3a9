"""A server of worker threads, as gunicorn's gthread and many others are: each request leaves its buffers in a cycle, and
the main thread only waits. usage: threaded_server.py join|event|select REQUESTS

The collector is on, with its thresholds as they come: it counts objects, not bytes. With MEMLIMIT_SIGNAL the recipe of
lib/cpython.md is in place, for waits in which the main thread comes to nothing else."""
import gc
import os
import queue
import select
import signal
import sys
import threading
import time

if "MEMLIMIT_SIGNAL" in os.environ:
    number = getattr(signal, "SIG" + os.environ["MEMLIMIT_SIGNAL"])
    signal.signal(number, lambda *_: gc.collect())
how, count = sys.argv[1], int(sys.argv[2])
assert gc.isenabled() and gc.get_threshold()[0] >= 700
finished = threading.Event()
reader, writer = os.pipe()
jobs = queue.SimpleQueue()
finalised_elsewhere = []


class Request:
    def __init__(self, number):
        self.number = number
        self.reply = Reply(self)

    def __del__(self):
        # By the automatic collection in any thread that the program has; never in one that it has not.
        if threading.current_thread().name.startswith("Dummy"):
            finalised_elsewhere.append(self.number)


class Reply:
    def __init__(self, request):
        self.request = request
        self.body = bytearray(b"x") * 1_000_000


def work():
    while (number := jobs.get()) is not None:
        Request(number)
        # A client is slower than memory: 4 workers make 400 MB a second.
        time.sleep(0.01)


def serve():
    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for number in range(count):
        jobs.put(number)
    for _ in workers:
        jobs.put(None)
    for worker in workers:
        worker.join()
    finished.set()
    os.write(writer, b"x")


server = threading.Thread(target=serve)
server.start()
if how == "join":
    server.join()
elif how == "event":
    finished.wait()
else:
    select.select([reader], [], [])
server.join()
assert not finalised_elsewhere, finalised_elsewhere
print("done")
