"""Cycles with the collector off: large objects, which malloc sees, or small ones, which lie in CPython's own
arenas. usage: cycles_uncollected.py large|small COUNT"""
import gc
import sys

size = {"large": 4000, "small": 16}[sys.argv[1]]


class Node:
    def __init__(self, other):
        self.other = other
        self.text = bytes(size)


gc.disable()
for _ in range(int(sys.argv[2]) // 2):
    first = Node(None)
    first.other = Node(first)
assert not gc.isenabled()
print("done")
