"""What the demonstration and the incident share: promises that are kept or broken, and a free port."""

import socket

# A server that has not answered for this long is dead, however slow the machine.
PATIENCE_S = 30.0


class Promises:
    """What was to be seen, and whether it was."""

    def __init__(self):
        self.kept = 0
        self.broken = []

    def check(self, name, holds, seen=""):
        print(f"  {'ok    ' if holds else 'BROKEN'}  {name}{f' ({seen})' if seen else ''}", flush=True)
        if holds:
            self.kept += 1
        else:
            self.broken.append(name)

    def status(self, began_s, now_s):
        """Prints the sum, and returns the exit status that it deserves."""
        print(f"\n{self.kept} of {self.kept + len(self.broken)} promises kept in {now_s - began_s:.0f} s")
        return 1 if self.broken else 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
