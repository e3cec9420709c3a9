"""What Python programs do with memory: dictionaries, objects, JSON, text, sorting.

Everything is derived from a fixed sequence, so the output is the same under every allocator. The
last line is the resident memory after the work, when nearly all of it has been freed.
"""

import collections
import gc
import json
import random
import re
import sys


class Order:
    def __init__(self, number, rng):
        self.number = number
        self.customer = f"customer-{rng.randrange(5000)}"
        self.lines = [{"item": f"item-{rng.randrange(900)}", "pieces": rng.randrange(1, 9),
                       "price": rng.randrange(100, 99_999) / 100}
                      for _ in range(rng.randrange(1, 7))]

    def total(self):
        return sum(line["pieces"] * line["price"] for line in self.lines)


def work(rng, orders):
    made = [Order(number, rng) for number in range(orders)]
    by_customer = collections.defaultdict(list)
    for order in made:
        by_customer[order.customer].append(order)
    richest = sorted(by_customer, key=lambda c: (-sum(o.total() for o in by_customer[c]), c))[:10]
    text = json.dumps([order.__dict__ for order in made])
    again = json.loads(text)
    words = collections.Counter(re.findall(r"(?:item|customer)-\d+", text))
    big = [str(pow(3, 200 + n) % 10**60) for n in range(orders // 20)]
    blocks = [bytearray(rng.randrange(1000, 40_000)) for _ in range(orders // 20)]
    return (len(text), len(again), richest[0], words.most_common(1)[0], "".join(big)[-10:],
            sum(map(len, blocks)))


def resident_kib():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4


def main():
    rounds, orders = int(sys.argv[1]), 10_000
    rng = random.Random(7)
    for _ in range(rounds):
        print(work(rng, orders))
    gc.collect()
    print(f"resident_kib={resident_kib()}")


main()
