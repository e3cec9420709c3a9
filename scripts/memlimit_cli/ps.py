"""`memlimit ps`: every process under the library, fullest first, as a table or as JSON."""

import sys

from . import asking, rows
from .text import print_json, table

RIGHT = [i for i, column in enumerate(rows.COLUMNS) if column.right]


def as_json(row):
    """The figures are bytes and counts, as in the file `stat`; null where the process told none."""
    told = {key: row.figures.get(key) for key in ("heap_alloc", "rss_anon", "cgroup_used", "headroom", "rounds", "limiter_on")}
    return {
        "pid": row.process.pid,
        "name": row.process.name,
        "user": row.user,
        "container": None if row.container == "-" else row.container,
        "socket": row.process.address.replace("\0", "@") if row.process.address else None,
        "level": row.level if row.figures else None,
        "limit": row.limit if row.figures else None,
        "paced": row.used if row.figures else None,
        "share": round(row.share, 4) if row.share is not None else None,
        **told,
        "answers": bool(row.figures),
        "problem": row.problem,
    }


def ps(which, as_what="table", timeout_s=asking.TIMEOUT_S):
    answers = asking.everybody(which, asking.Asker(timeout_s))
    found = rows.ordered(rows.make(answers))
    if as_what == "json":
        print_json([as_json(row) for row in found])
        return 0 if found else 1
    if not found:
        called = f" and is called {' or '.join(which)}" if which else ""
        print(f"memlimit: no process runs under memlimit that this user may see{called}", file=sys.stderr)
        return 1
    head = [column.title for column in rows.COLUMNS]
    for line in table([head, *([column.text(row) for column in rows.COLUMNS] for row in found)], RIGHT):
        print(line)
    sys.stdout.flush()
    for row in found:
        if row.problem:
            # "PID (NAME)" stands in front already where the socket's client found the problem.
            print(f"memlimit: {row.process.pid} ({row.process.name}): {row.problem}", file=sys.stderr)
    return 0
