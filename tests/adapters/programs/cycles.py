"""Cycles with the collector disabled, in the main thread and in others; finalisers run in threads that the
program knows, the collector stays as the program has it, and exceptions under way are not disturbed."""
import gc
import sys
import threading

gc.disable()
known = {threading.main_thread().ident}
seen = set()
live = [{"number": i, "text": str(i)} for i in range(30_000)]


class Node:
    def __init__(self, other):
        self.other = other
        self.text = bytearray(700)

    def __del__(self):
        seen.add(threading.get_ident())


def waves():
    known.add(threading.get_ident())
    for i in range(4_000):
        a = Node(None)
        a.other = Node(a)
        try:
            raise ValueError(i)
        except ValueError as error:
            b = [a, error.args, bytes(600)]
            assert sys.exc_info()[1] is error and error.args == (i,)
    del a, b


threads = [threading.Thread(target=waves) for _ in range(2)]
for thread in threads:
    thread.start()
waves()
for thread in threads:
    thread.join()
assert not gc.isenabled()
assert sys.exc_info() == (None, None, None)
# A pending call makes no thread state of its own: only threads that the program has started ran finalisers.
assert seen <= known, (seen, known)
print("done", sum(len(row) for row in live))
