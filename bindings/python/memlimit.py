"""memlimit for Python programs: the limit, the figures, and hooks that give memory back.

One file and the standard library: copy it beside your program. It talks to the libmemlimit.so that was preloaded into
this process (`memlimit-run -l 512MiB -- python3 server.py`). Without that, the program runs all the same: see loaded().

    import memlimit

    @memlimit.hook("sessions")
    def drop_sessions(request):
        freed = 0
        while sessions and freed < request.wanted_bytes:
            freed += sessions.popitem(last=False)[1].size
        return freed

    memlimit.attach()        # in a coroutine: hooks run on asyncio's own loop
    memlimit.start_thread()  # or, in a program of threads: on a thread of their own
    memlimit.poll()          # or by hand, now and then

Where hooks run. A hook in Python needs the interpreter, and so it runs where the interpreter expects Python code:
inside poll(), on the thread that calls it (`MEMLIMIT_POLL` of memlimit.h). The other contexts are not offered:

- `MEMLIMIT_INLINE` runs inside malloc. A thread that has the GIL there is in the middle of some operation of the
  interpreter's; one that has not might have to wait for it for ever.
- `MEMLIMIT_ASYNC` runs on the library's thread, which would wait for the GIL, with every other hook of that kind
  behind it; and when the interpreter ends, waiting for the GIL ends the thread. start_thread() does the same on a thread
  of Python's.

Threads: every function may be called by any thread that runs Python. A hook never runs on two threads at once. It may
take locks that the thread which calls poll() does not hold, allocate, and call everything here; poll() and reclaim() do
nothing in a hook. The GIL is released while the library works, and held while a hook does.

Python 3.9 and later, on the main interpreter.
"""

import atexit
import ctypes
import enum
import itertools
import os
import select
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, TypeVar, Union, overload

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "CANNOT_NOW",
    "Hook",
    "Level",
    "NotLoaded",
    "Request",
    "add_hook",
    "attach",
    "charge",
    "get_limit",
    "hook",
    "loaded",
    "poll",
    "poll_fd",
    "reclaim",
    "set_limit",
    "start_thread",
    "stats",
]

CANNOT_NOW = -1
"""A hook's answer "I can do nothing at this moment" (a lock is busy, say): it is skipped, not punished."""

END_WAIT_S = 1.0  # as the library itself waits at exit for a hook that runs
FORK_WAIT_S = 0.1  # a hook's deadline
BUSY_WAIT_S = 0.01  # before the thread asks again while another thread is in poll()
MAX_INT64 = 2**63 - 1
MEMLIMIT_POLL = 1
NAME_BYTES = 31

# The figures of struct memlimit_stats, in its order.
FIGURES = (
    "limit heap_alloc heap_peak total_alloc total_freed charged mapped headroom rss_anon cgroup_used paced level rounds "
    "hook_calls hook_skips hook_ns hooks reclaimed overshoot_peak oversized limiter_on limiter_episodes limiter_skipped "
    "limiter_needed reclaim_cpu_ns assists assist_ns assist_max_ns purges purge_ns purged madvise_calls held_idle threads "
    "quantum publishes forks invalid_settings events_dropped socket_requests socket_refused uptime_ns heap_cached heap_free "
    "heap_large heap_huge heap_kept heap_lost heap_spans heap_regions heap_records hook_overruns hooks_running hook_running_ns "
    "profile_interval profile_samples profile_sites profile_dropped"
).split()


class NotLoaded(RuntimeError):
    """What was asked for has no meaning without libmemlimit.so."""


class Level(enum.IntEnum):
    """How tight memory is."""

    LOW = 0
    MODERATE = 1
    CRITICAL = 2
    OVER = 3


class Request(NamedTuple):
    """What a hook is asked: struct memlimit_request."""

    wanted_bytes: int  # freeing less is fine, freeing much more is waste
    usage_bytes: int
    limit_bytes: int  # 0: no limit (an explicit reclaim)
    level: Level
    deadline_ns: int  # on the clock of time.monotonic_ns()
    round: int


Reclaim = Callable[[Request], Optional[int]]
AnyReclaim = TypeVar("AnyReclaim", bound=Reclaim)


class _Request(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("wanted_bytes", ctypes.c_int64),
        ("usage_bytes", ctypes.c_int64),
        ("limit_bytes", ctypes.c_int64),
        ("level", ctypes.c_int),
        ("deadline_ns", ctypes.c_uint64),
        ("round", ctypes.c_uint64),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(_Request), ctypes.c_void_p)


class _Hook(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("context", ctypes.c_int),
        ("reclaim", _Callback),
        ("arg", ctypes.c_void_p),
    ]


class _Stats(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t)] + [(name, ctypes.c_int64) for name in FIGURES]


def _find_library() -> Any:
    """The library that is already in the process; None when it is not. It is never loaded from here: a malloc that comes
    later than the first block serves nobody."""
    process = ctypes.CDLL(None)
    try:
        process.memlimit_get
    except AttributeError:
        return None
    for name, result, arguments in (
        ("memlimit_set", ctypes.c_int64, [ctypes.c_int64]),
        ("memlimit_get", ctypes.c_int64, []),
        ("memlimit_hook_add", ctypes.c_int, [ctypes.POINTER(_Hook), ctypes.POINTER(ctypes.c_uint64)]),
        ("memlimit_hook_remove", ctypes.c_int, [ctypes.c_uint64]),
        ("memlimit_reclaim", ctypes.c_int64, [ctypes.c_int64]),
        ("memlimit_poll_fd", ctypes.c_int, []),
        ("memlimit_poll", ctypes.c_int, []),
        ("memlimit_charge", None, [ctypes.c_int64]),
        ("memlimit_read_stats", ctypes.c_int, [ctypes.POINTER(_Stats), ctypes.c_size_t]),
    ):
        function = getattr(process, name)
        function.restype, function.argtypes = result, arguments
    return process


_library = _find_library()


# --- The limit and the figures ---


def loaded() -> bool:
    """Whether libmemlimit.so is in this process; never changes.

    Without it get_limit() and reclaim() are 0, stats() is empty, poll() is 0 and poll_fd() is -1; hooks are taken and
    never called, and attach(), start_thread() and charge() do nothing. set_limit() raises NotLoaded: whoever sets a limit
    counts on it.
    """
    return _library is not None


def get_limit() -> int:
    """The limit in force, in bytes; 0 when it is off."""
    return int(_library.memlimit_get()) if _library else 0


def set_limit(limit_bytes: int) -> int:
    """Changes the limit; 0 turns it off. Returns the one before, 0 when it was off."""
    limit_bytes = _whole(limit_bytes, least=0)
    if not _library:
        raise NotLoaded("libmemlimit.so is not in this process: start it with memlimit-run")
    return int(_library.memlimit_set(limit_bytes))


def stats() -> Dict[str, int]:
    """Every figure of the socket's file `stat`, under the same names; those that the library has."""
    if not _library:
        return {}
    figures = _Stats()
    _check(_library.memlimit_read_stats(ctypes.byref(figures), ctypes.sizeof(figures)))
    return {name: getattr(figures, name) for name in FIGURES if getattr(_Stats, name).offset < figures.size}


def reclaim(wanted_bytes: int = 0) -> int:
    """A round now, whatever the usage; 0: all that can be had. Returns the bytes that came back; hooks of Python's are
    only woken, and run in the next poll()."""
    wanted_bytes = _whole(wanted_bytes, least=0)
    return int(_library.memlimit_reclaim(wanted_bytes)) if _library else 0


def charge(more_bytes: int) -> None:
    """Counts memory that malloc does not see, such as buffers of a device; a negative number takes it off again."""
    more_bytes = _whole(more_bytes, least=-MAX_INT64)
    if _library:
        _library.memlimit_charge(more_bytes)


def _whole(value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a whole number of bytes is wanted, not {value!r}")
    if not least <= value <= MAX_INT64:
        raise ValueError(f"{value} is not between {least} and {MAX_INT64}")
    return value


def _check(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


# --- Hooks ---


class Hook:
    """A registered function. It stays registered when this object is forgotten; remove() ends that."""

    def __init__(self, function: Reclaim, name: str) -> None:
        self.function = function
        self.name = name
        self._id = 0
        self._number = 0
        self._running_in: Optional[int] = None  # the thread

    def remove(self) -> None:
        """When it returns, the function is not running and will never run again; called in the hook itself, the removal
        takes effect when the hook returns. Does nothing the second time."""
        if self._id:
            identifier, self._id = self._id, 0
            # Waits for a hook that runs on another thread, and with the GIL released, or that would wait for this one.
            _library.memlimit_hook_remove(identifier)
            if self._running_in is None:
                _hooks.pop(self._number, None)

    def __enter__(self) -> "Hook":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


# What the library is given as `arg`, so that one callback serves all hooks and none is ever freed while it runs. A
# module that is loaded anew goes on with the old one's: its hooks are still registered.
_hooks: Dict[int, Hook] = globals().get("_hooks", {})
_numbers = globals().get("_numbers", itertools.count(1))
_changed = threading.Condition()  # guards what follows, and tells that a hook has returned
_local = threading.local()
_ended = False


def add_hook(function: Reclaim, name: Optional[str] = None) -> Hook:
    """Registers a function that gives memory back under pressure: it is asked in poll(), with a Request, and returns the
    bytes that it believes it freed, or CANNOT_NOW. OSError (ENOSPC) when the library's 64 places are taken."""
    shown = name if name is not None else getattr(function, "__name__", type(function).__name__)
    if not shown or "\0" in shown:
        raise ValueError(f"{shown!r} is not a name of a hook")
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called")
    added = Hook(function, shown)
    if not _library or _ended:
        return added
    if not _is_main_interpreter():
        raise RuntimeError("a sub-interpreter can have no hooks: callbacks run in the main one")
    encoded = shown.encode()[:NAME_BYTES].decode(errors="ignore").encode()
    added._number = next(_numbers)
    _hooks[added._number] = added
    raw = _Hook(ctypes.sizeof(_Hook), encoded, MEMLIMIT_POLL, _callback, added._number)
    identifier = ctypes.c_uint64()
    try:
        _check(_library.memlimit_hook_add(ctypes.byref(raw), ctypes.byref(identifier)))
    except OSError:
        del _hooks[added._number]
        raise
    added._id = identifier.value
    return added


@overload
def hook(function: AnyReclaim) -> AnyReclaim: ...
@overload
def hook(function: Optional[str] = None) -> Callable[[AnyReclaim], AnyReclaim]: ...
def hook(function: Union[AnyReclaim, str, None] = None) -> Any:
    """add_hook() as a decorator: `@hook`, or `@hook("name")`. The function stays what it is."""
    if function is not None and not isinstance(function, str):
        add_hook(function)
        return function
    name = function

    def register(decorated: AnyReclaim) -> AnyReclaim:
        add_hook(decorated, name)
        return decorated

    return register


def _is_main_interpreter() -> bool:
    python = getattr(ctypes, "pythonapi", None)
    if python is None:
        return True
    python.PyInterpreterState_Get.restype = ctypes.c_void_p
    python.PyInterpreterState_GetID.restype = ctypes.c_int64
    python.PyInterpreterState_GetID.argtypes = [ctypes.c_void_p]
    return bool(python.PyInterpreterState_GetID(python.PyInterpreterState_Get()) == 0)


def _dispatch(raw: Any, number: int) -> int:
    """Called by the library, inside memlimit_poll(). What is raised here ctypes would print and answer with whatever
    was in the register: poll() raises it when it is back in Python."""
    with _changed:
        called = _hooks.get(number)
        if called is None or not called._id or _ended:
            return CANNOT_NOW
        called._running_in = threading.get_ident()
    try:
        asked = raw.contents
        level = Level(min(max(asked.level, Level.LOW), Level.OVER))  # a later library may know more
        answer = called.function(
            Request(asked.wanted_bytes, asked.usage_bytes, asked.limit_bytes, level, asked.deadline_ns, asked.round)
        )
        freed = 0 if answer is None else int(answer)
        return CANNOT_NOW if freed < 0 else min(freed, MAX_INT64)
    except BaseException as error:  # KeyboardInterrupt, too: it was meant for the program, not for the hook
        failures: Optional[List[BaseException]] = getattr(_local, "failures", None)
        if failures is None:  # somebody else's code called memlimit_poll()
            traceback.print_exception(type(error), error, error.__traceback__)
        else:
            failures.append(error)
        return CANNOT_NOW
    finally:
        with _changed:
            called._running_in = None
            if not called._id:
                _hooks.pop(number, None)
            _changed.notify_all()


_callback = _Callback(_dispatch)
if getattr(ctypes, "pythonapi", None) is not None:
    # For ever: the library may call it as long as a hook is registered, whatever becomes of this module.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_callback))


# --- Who calls them ---


def poll() -> int:
    """Runs the hooks that are due, on this thread; returns how many ran. Costs next to nothing when none is due.

    What a hook raises is raised here, after the others have run; it counts as CANNOT_NOW. Of several the first is raised,
    and the others are printed.
    """
    if not _library:
        return 0
    outer = getattr(_local, "failures", None)  # in a hook nothing runs, and its own failures stay its own
    failures: List[BaseException] = []
    _local.failures = failures
    try:
        ran = int(_library.memlimit_poll())
    finally:
        _local.failures = outer
    for error in failures[1:]:
        traceback.print_exception(type(error), error, error.__traceback__)
    if failures:
        raise failures[0]
    return ran


def poll_fd() -> int:
    """A descriptor that is readable when poll() has work; -1 without the library. Not to be read from or closed; the child
    of a fork has another one."""
    return _check(_library.memlimit_poll_fd()) if _library else -1


def attach(loop: "Optional[asyncio.AbstractEventLoop]" = None) -> Callable[[], None]:
    """Has an event loop call poll() when there is work: this one, where a coroutine calls it. Returns what undoes it."""
    import asyncio

    if loop is None:
        loop = asyncio.get_running_loop()
    descriptor = poll_fd()
    if descriptor < 0:
        return lambda: None
    attached = loop
    attached.add_reader(descriptor, poll)

    def detach() -> None:
        if not attached.is_closed():
            attached.remove_reader(descriptor)

    return detach


class _PollThread:
    """A thread that waits for work and calls poll(). It is a daemon: no program waits for it at its end. It steps aside
    while the program forks, as the library's own does."""

    def __init__(self) -> None:
        self.descriptor = poll_fd()
        self.stop_reads, self.stop_writes = os.pipe()
        self.thread = threading.Thread(target=self.run, name="memlimit-hooks", daemon=True)
        self.thread.start()

    def run(self) -> None:
        waiting = select.poll()
        waiting.register(self.descriptor, select.POLLIN)
        waiting.register(self.stop_reads, select.POLLIN)
        while self.stop_reads not in [descriptor for descriptor, _ in waiting.poll()]:
            try:
                if poll() == 0:
                    time.sleep(BUSY_WAIT_S)
            except BaseException:  # a hook's: the thread serves the others, too
                traceback.print_exc()
        os.close(self.stop_reads)
        os.close(self.stop_writes)

    def stop(self, wait_s: float) -> None:
        """Asks it to end, after the hook that it is in; waits so long for that."""
        if self.thread is not threading.current_thread():
            os.write(self.stop_writes, b"x")
            self.thread.join(wait_s)


_poll_thread: Optional[_PollThread] = None


def start_thread() -> None:
    """Has a thread call poll(), for programs without an event loop: hooks then run beside the program, and take the locks
    of what they touch. Does nothing the second time. The child of os.fork() gets a thread of its own."""
    global _poll_thread
    if _library and _poll_thread is None and not _ended:
        _poll_thread = _PollThread()


def _before_fork() -> None:
    if _poll_thread is not None:
        _poll_thread.stop(FORK_WAIT_S)


def _after_fork_in_parent() -> None:
    global _poll_thread
    if _poll_thread is not None and _poll_thread.thread is not threading.current_thread():
        _poll_thread = _PollThread()


def _after_fork_in_child() -> None:
    global _poll_thread, _changed
    _changed = threading.Condition()
    for forked in _hooks.values():
        if forked._running_in != threading.get_ident():
            forked._running_in = None
    if _poll_thread is not None:
        _poll_thread = _PollThread()


def _at_exit() -> None:
    """Before the interpreter ends: a thread that waits for the GIL after that is ended, which a hook must not be. One that
    still runs is waited for, for a second; no other is called any more."""
    global _ended
    with _changed:
        _ended = True
    deadline = time.monotonic() + END_WAIT_S
    for registered in list(_hooks.values()):
        with _changed:
            _changed.wait_for(lambda: registered._running_in is None, max(deadline - time.monotonic(), 0))
        if registered._running_in is None:
            registered.remove()
    if _poll_thread is not None:
        _poll_thread.stop(END_WAIT_S)


if _library:
    atexit.register(_at_exit)
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
