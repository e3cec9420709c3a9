"""Cyclic garbage with the collector's thresholds raised, as services do that fear its pauses."""
import gc

gc.set_threshold(100_000_000, 50, 50)
total = 0
for request in range(40_000):
    nodes = [{"id": i, "text": "x" * (200 + i)} for i in range(20)]
    for i, node in enumerate(nodes):
        node["next"] = nodes[(i + 1) % len(nodes)]
    total += len(nodes)
print("done", total)
