"""The main thread waits - in a join, a sleep, a read - while others allocate cycles; with SQLite objects that
refuse to be finalised elsewhere."""
import gc
import os
import sqlite3
import sys
import threading
import time

complaints = []
sys.unraisablehook = complaints.append


class Owner:
    """In a cycle with an object that only its own thread may close."""

    def __init__(self):
        self.me = self
        self.connection = sqlite3.connect(":memory:")
        self.cursor = self.connection.execute("select 1")


def churn():
    for _ in range(1_500):
        row = [bytearray(4_000)]
        row.append(row)


def beside(wait):
    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait(threads)
    for thread in threads:
        thread.join()


def read_pipe(threads):
    reader, writer = os.pipe()
    closer = threading.Thread(target=lambda: (threads[0].join(), os.close(writer)))
    closer.start()
    assert os.read(reader, 1) == b""
    closer.join()
    os.close(reader)


# The program's own collections would finalise in any thread: it has none.
gc.disable()
owners = [Owner() for _ in range(5)]
del owners
beside(lambda threads: threads[0].join())
beside(lambda _: time.sleep(0.02))
beside(read_pipe)
gc.collect()
assert not complaints, complaints
print("done")
