"""Forks while garbage is made and threads allocate: the children make and drop cycles of their own, and
end in the ways that there are."""
import os
import sys
import threading
import time

going = True


def churn():
    while going:
        row = [bytearray(2_000) for _ in range(50)]
        row.append(row)
        time.sleep(0.0005)


def cycles(count):
    for _ in range(count):
        row = {"text": bytearray(3_000)}
        row["self"] = row


threads = [threading.Thread(target=churn, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
children = []
for number in range(3):
    cycles(300)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        cycles(500)
        if number % 3 == 0:
            os._exit(number)
        if number % 3 == 1 and os.fork() == 0:
            cycles(300)
            os._exit(0)
        sys.exit(number)
    children.append(pid)
statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
going = False
for thread in threads:
    thread.join()
print("done", statuses)
