"""A large graph of objects that stays, and a smaller one of larger objects in cycles that is replaced piece by piece,
with the collector's thresholds as they come: it runs over the old objects only when a quarter of all is new."""


class Pair:
    __slots__ = ("left", "text", "right")

    def __init__(self, size):
        self.left = self.right = self
        self.text = "x" * size


stays = [Pair(300 + i % 200) for i in range(250_000)]
recent = [Pair(2000) for _ in range(20_000)]
for step in range(300_000):
    recent[step % len(recent)] = Pair(1900 + step % 200)
print("done")
