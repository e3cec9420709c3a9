"""What the memory is: blocks by size and thread, idle pages, swap, mappings, and what reclaim costs. Pure."""

from .finding import MIB, NOTE, OK, WARNING, Finding, at_limit, format_size, limit_of, share

IDLE_SHARE, IDLE_LEAST = 0.25, 32 * MIB
CACHED_SHARE = 0.10  # of the limit
SWAPPED_LEAST = 8 * MIB
MAPPED_SHARE = 0.25
COST_HIGH = 0.10  # of one core, since the start
SHOWN = 4  # size classes, threads
FRAMES = 4  # of a stack


def idle(s):
    """Pages that no live block uses."""
    held, rss = s.stat.get("held_idle", 0), s.stat.get("rss_anon", 0)
    if held < max(IDLE_SHARE * rss, IDLE_LEAST):
        return []
    return [Finding(
        WARNING if at_limit(s) else NOTE, "idle", f"{format_size(held)} of {format_size(rss)} of RSS are pages that no live block uses",
        f"fragmentation, thread caches, or memory that does not come from malloc (mapped: {format_size(s.stat.get('mapped', 0))})",
        "the next round purges what can go; what stays is held by single blocks in shared pages: see FREE and CACHED in the heap's table",
    )]


def cached(s):
    cache, limit = s.stat.get("heap_cached", 0), limit_of(s)
    if limit <= 0 or cache < CACHED_SHARE * limit:
        return []
    threads = s.stat.get("threads", 0)
    return [Finding(
        WARNING if at_limit(s) else NOTE, "cached", f"threads keep {format_size(cache)} of free blocks for themselves ({share(cache, limit)} of the limit)",
        f"{threads} threads have allocated and are alive", "fewer threads, or a higher limit",
    )]


def swapped(s):
    swap = s.kernel.get("VmSwap", 0)
    if swap < SWAPPED_LEAST:
        return []
    return [Finding(
        WARNING, "swap", f"{format_size(swap)} of it are in swap",
        "the machine or the container was short of memory; what is swapped out is not in RSS", "it is slow where it touches that: give it room, or less to hold",
    )]


def mapped(s):
    amount, limit = s.stat.get("mapped", 0), limit_of(s)
    if limit <= 0 or amount < MAPPED_SHARE * limit:
        return []
    counted = "counts as far as it is touched" if s.status.get("Account") == "rss" else "does not count as usage"
    return [Finding(
        NOTE, "mapped", f"the program has mapped {format_size(amount)} itself, which {counted}",
        "heaps of runtimes, stacks and buffers that do not come from malloc", "" if s.status.get("Account") == "rss" else "MEMLIMIT_ACCOUNT=rss counts it",
    )]


def cost(s):
    """What reclaim takes of the program's time, over its whole life."""
    spent, uptime = s.stat.get("reclaim_cpu_ns", 0), s.stat.get("uptime_ns", 0)
    found = []
    if uptime and spent > COST_HIGH * uptime:
        found.append(Finding(
            WARNING, "cost", f"reclaim has taken {share(spent, uptime)} of one core since the start ({spent / 1e9:.3g} s)",
            f"{s.stat.get('rounds', 0)} rounds, {s.stat.get('purges', 0)} purges", "a higher limit makes rounds rare",
        ))
    if longest := s.stat.get("assist_max_ns", 0):
        found.append(Finding(
            NOTE, "cost", f"threads waited for rounds {s.stat.get('assists', 0)} times, {s.stat.get('assist_ns', 0) / 1e9:.3g} s in all, "
            f"{longest / 1e6:.3g} ms at most", remedy="MEMLIMIT_ASSIST=off lets them go on, past the limit",
        ))
    return found


def holders(s):
    """What holds the memory, by size."""
    rows = s.largest_classes()
    heap = s.stat.get("heap_alloc", 0)
    if not rows or not heap:
        return []
    total = max(heap, sum(row["live_bytes"] for row in rows))
    parts = [f"{spell(row)} {format_size(row['live_bytes'])} ({share(row['live_bytes'], total)})" for row in rows[:SHOWN]]
    return [Finding(
        NOTE if at_limit(s) else OK, "holds", f"what holds the heap of {format_size(heap)}: {', '.join(parts)}",
        remedy=f"memlimit stat {s.pid} heap has every class" if at_limit(s) else "",
    )]


def sites(s):
    """Who allocated it, by the heap profile."""
    heap = s.stat.get("heap_alloc", 0)
    if s.sites:
        parts = [f"{format_size(amount)} ({share(amount, heap)}) by {callers(names)}" for amount, names in s.sites]
        return [Finding(
            NOTE if at_limit(s) else OK, "sites", f"the heap profile has the most of it at {'; '.join(parts)}",
            remedy=f"memlimit heap {s.pid} has whole stacks and lines; --diff 60 shows what grows",
        )]
    if at_limit(s) and s.stat.get("profile_interval") == 0:
        return [Finding(
            NOTE, "sites", "who allocates is not known: the heap profile is off",
            remedy=f"memlimit heap {s.pid} --start sees what is allocated from then on; MEMLIMIT_PROFILE=on from the start",
        )]
    return []


def callers(names):
    """The innermost functions of a stack, as many as a line has room for."""
    return " < ".join(names[:FRAMES]) + (" ..." if len(names) > FRAMES else "")


def spell(row):
    count = row.get("live") or 0
    name = str(row["class"])
    if name == "large":
        return f"{count:,} blocks of 32 KiB to 4 MiB"
    if name == "huge":
        return f"{count:,} blocks of more than 4 MiB"
    return f"{count:,} blocks of {row.get('block')} bytes"


def threads(s):
    """Which threads hold it: what they took and did not give back."""
    rows = [row for row in s.largest_threads() if (row.get("live_bytes") or 0) > 0]
    total = sum(row["live_bytes"] for row in rows)
    if len(rows) < 2 or not total:
        return []
    parts = [
        f"{row['thread']}{' ' + row['name'] if row['name'] != '-' else ''} {format_size(row['live_bytes'])} ({share(row['live_bytes'], total)})"
        for row in rows[:SHOWN]
    ]
    return [Finding(NOTE if at_limit(s) else OK, "holds", f"by the thread that allocated more than it freed: {', '.join(parts)}")]
