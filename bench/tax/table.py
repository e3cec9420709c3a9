# A table of objects that are replaced when they are old, each of which leaves a cycle. usage: table.py COUNT ROUNDS
import gc
import os
import sys


class Row:
    def __init__(self, number):
        self.me = self
        self.text = f"row {number} " * 20


def own_bytes():
    resident, shared = open("/proc/self/statm").read().split()[1:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")


count, rounds = map(int, sys.argv[1:])
table = [Row(number) for number in range(count)]
gc.collect()
print(own_bytes())
for number in range(count * rounds):
    table[number * 7919 % count] = Row(number)
print("done", len(table))
