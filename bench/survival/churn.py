"""A large graph of objects that stays, and larger ones in cycles that are replaced piece by piece, with the
collector's thresholds as they come: it looks at old objects only when a quarter of all is new.

usage: churn.py roomy|tight [STEPS]: what lives is a third of the limit and each text takes some work, or it is nearly
all of the limit and the program does little but replace. By hand: everything is collected each STEPS steps, and only
then.
"""
import gc
import sys


class Pair:
    __slots__ = ("left", "text", "right")

    def __init__(self, text):
        self.left = self.right = self
        self.text = text


def report(step):
    return ",".join(map(str, range(step % 1000, step % 1000 + 300))) * 3


def filler(step):
    return "x" * (1900 + step % 200)


# Objects that stay and the size of each; larger ones alive at a time, their text, and how many come.
stay, small, live, text, steps = {
    "roomy": (250_000, 20, 4_000, report, 150_000),
    "tight": (250_000, 300, 20_000, filler, 300_000),
}[sys.argv[1]]
collect_each = int(sys.argv[2]) if len(sys.argv) > 2 else 0
if collect_each:
    gc.disable()
stays = [Pair("x" * (small + i % 200)) for i in range(stay)]
recent = [Pair(text(i)) for i in range(live)]
for step in range(steps):
    recent[step % live] = Pair(text(step))
    if collect_each and step % collect_each == 0:
        gc.collect()
print("done")
