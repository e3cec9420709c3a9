"""A large graph of objects in cycles, replaced piece by piece, with the collector's thresholds as they come:
it runs over the old objects only when a quarter of them is new."""


class Pair:
    __slots__ = ("left", "text", "right")

    def __init__(self, size):
        self.left = self.right = self
        self.text = "x" * size


live = [Pair(300 + i % 200) for i in range(430_000)]
at = 0
for step in range(250_000):
    at = (at + 7919) % len(live)
    live[at] = Pair(300 + step % 200)
print("done")
