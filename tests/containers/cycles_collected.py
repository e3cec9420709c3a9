"""Buffers of 1 MB in cycles of parent and child, with the collector on and its thresholds as they come: it
counts objects, not bytes, and would run after 350 of them."""
import gc


class Parent:
    def __init__(self):
        self.child = Child(self)


class Child:
    def __init__(self, parent):
        self.parent = parent
        self.buffer = bytearray(b"x") * 1_000_000


assert gc.isenabled() and gc.get_threshold() in ((700, 10, 10), (2000, 10, 0), (2000, 10, 10))
for _ in range(1500):
    Parent()
print("done")
