"""Makes garbage to the very end: atexit handlers, finalisers of modules, daemon threads that still run; and
before that in a sub-interpreter that lives and ends."""
import atexit
import sys
import threading

try:
    import _interpreters  # Python 3.13 and later
except ImportError:
    import _xxsubinterpreters as _interpreters


class Late:
    def __init__(self, size):
        self.size = size
        self.me = self

    def __del__(self):
        for _ in range(200):
            row = [bytearray(self.size)]
            row.append(row)


def churn():
    while True:
        Late(1_000)


def garbage():
    for _ in range(300):
        Late(2_000)


kept = [Late(3_000) for _ in range(50)]
for _ in range(2):
    threading.Thread(target=churn, daemon=True).start()
interpreter = _interpreters.create()
_interpreters.run_string(interpreter, """
rows = []
for i in range(20_000):
    rows = [rows, bytearray(100)] if i % 10 else []
""")
_interpreters.destroy(interpreter)
atexit.register(garbage)
garbage()
print("done")
sys.exit(3)
