"""Who can give memory back: hooks, and the runtimes in the process. Pure."""

import re

from .finding import CRITICAL, MIB, NOTE, OK, WARNING, Finding, at_limit, duration, format_size, limit_of

LONG_RUN_US = 1_000_000  # of a hook that runs now
SLOW_CALL_US = 100_000  # a call, on average
HOOKS_PAGE = "lib/hooks.md and memlimit.h say how"


def figure(hook, key):
    value = hook.get(key)
    return value if isinstance(value, int) else 0


def running(s):
    """One that runs now. It holds up the other hooks of its thread."""
    found = []
    for hook in s.hooks:
        us = figure(hook, "running_us")
        if us >= LONG_RUN_US:
            found.append(Finding(
                CRITICAL, "hook", f"the hook {hook['name']} has been running for {duration(us)}",
                f"it is inside its function, on {where(hook)}; others wait for it, and it frees nothing meanwhile",
                f"gdb -p {s.pid}, thread apply all bt: what does it wait for? A hook may try a lock, and return CANNOT_NOW",
            ))
        elif us:
            found.append(Finding(NOTE, "hook", f"the hook {hook['name']} is running, for {duration(us)} so far"))
    return found


def where(hook):
    return {
        "async": "memlimit's own thread", "poll": "the program's event loop", "inline": "the allocating thread",
        "safepoint": "the runtime's own thread",
    }.get(hook.get("context"), "a thread of the program")


def overruns(s):
    found = []
    for hook in s.hooks:
        if times := figure(hook, "overruns"):
            found.append(Finding(
                WARNING, "hook", f"the hook {hook['name']} ran past its deadline {times} time{'s' * (times != 1)} in {figure(hook, 'calls')} calls",
                "it does more in one call than its time allows", "let it look at request.deadline_ns and stop there: it is called again",
            ))
    return found


def missing(s):
    if not s.stat or s.hooks or limit_of(s) <= 0:
        return []
    told = s.status.get("NotAsked")
    return [Finding(
        WARNING if at_limit(s) else NOTE, "hook", "no hook and no runtime: a round can give free pages back, and nothing else",
        f"not asked: {told}" if told else "the program registered none, and no runtime that memlimit knows is in it",
        f"give its caches a hook ({HOOKS_PAGE}), or a plugin (MEMLIMIT_PLUGINS), or a signal that makes it drop them (MEMLIMIT_SIGNAL)",
    )]


def fruitless(s):
    """Called, and freed nothing."""
    found = []
    for hook in s.hooks:
        calls, freed, backoff = figure(hook, "calls"), figure(hook, "freed"), figure(hook, "backoff")
        if not calls or freed:
            if backoff and at_limit(s):
                found.append(Finding(
                    NOTE, "hook", f"the hook {hook['name']} is backed off (step {backoff}): its last calls freed nothing",
                    f"it freed {format_size(freed)} in {calls} calls, and has nothing left",
                ))
            continue
        last = "it says that it cannot now" if hook.get("last") == "cannot-now" else "nothing of what it looks after can go"
        found.append(Finding(
            WARNING if at_limit(s) else NOTE, "hook",
            f"the hook {hook['name']} has freed nothing in {calls} calls" + (f", and is backed off (step {backoff})" if backoff else ""),
            last, "all of it is in use: see what holds the memory. A runtime frees only what nobody refers to",
        ))
    return found


def slow(s):
    found = []
    for hook in s.hooks:
        calls, us = figure(hook, "calls"), figure(hook, "us")
        if calls and us / calls >= SLOW_CALL_US:
            found.append(Finding(
                WARNING, "hook", f"the hook {hook['name']} takes {duration(us / calls)} a call",
                f"{duration(us)} in {calls} calls, for {format_size(figure(hook, 'freed'))}",
                "let it free a part a call (request.wanted_bytes); a full collection of a large heap costs what it costs: raise the limit",
            ))
    return found


def useful(s):
    return [
        Finding(OK, "hook", f"the hook {hook['name']} freed {format_size(figure(hook, 'freed'))} in {figure(hook, 'calls')} calls")
        for hook in s.hooks
        if figure(hook, "freed") > 0
    ]


def runtimes(s):
    """Those that are mapped: asked, or not and why."""
    if not s.stat:
        return []
    attached = {hook["name"].split("_")[0].split("-")[0] for hook in s.hooks}
    reasons = dict(re.findall(r"([\w-]+) \(([^)]*)\)", str(s.status.get("NotAsked", ""))))
    adapters = s.config.get("MEMLIMIT_ADAPTERS", {}).get("value", "auto")
    found = []
    for runtime in dict.fromkeys((*s.runtimes, *reasons)):
        if runtime in reasons:
            found.append(Finding(
                WARNING if at_limit(s) else NOTE, "runtime", f"{runtime} is in the process, and no round asks it",
                reasons[runtime], remedy_for(runtime, reasons[runtime]),
            ))
        elif runtime in attached:
            found.append(Finding(OK, "runtime", f"{runtime} is attached: rounds ask it to reclaim"))
        elif runtime == "sqlite":
            # Mapped by much that opens no database; where one is open its adapter is attached.
            found.append(Finding(NOTE, "runtime", "sqlite is mapped, and not in use"))
        else:
            found.append(Finding(
                WARNING if at_limit(s) else NOTE, "runtime", f"{runtime} is in the process, and is not attached",
                f"MEMLIMIT_ADAPTERS={adapters}; it attaches when the runtime is up and usage passes {4 * MIB >> 20} MiB or 1/16 of the limit",
                "`memlimit events` says adapter_attached when it comes; if it never does, its version is not known",
            ))
    return found


def remedy_for(runtime, reason):
    if "leaves it out" in reason:
        return "MEMLIMIT_ADAPTERS=auto at the next start"
    if "names it" in reason:
        return f"MEMLIMIT_ADAPTERS={runtime} at the next start"
    if "own limit" in reason:
        return {"dotnet": "DOTNET_GCHeapHardLimit", "lua": "collectgarbage with a pause below 200"}.get(runtime, "use its own limit")
    return "lib/programs.md has what it takes"
