/* How soon to look at memory that is mapped already, and that a program touches without one call of its allocator.
 *
 * Answers for: whether usage can reach the limit that way, short intervals while the process works or grows, longer ones
 * while it does not. Refuses: clocks, atomics, files, I/O. Numbers in, a duration out.
 * Threads: any, one at a time for one TouchWatch.
 *
 * malloc and mmap are seen when they are called, and most growth begins with one of them. The heap of a JVM is the exception:
 * committed at start, it fills for seconds without a call.
 */
#pragma once

#include <cstdint>

namespace memlimit {

/** The shortest interval while the process works. A look costs some 30 microseconds with its wake-up: 0.06 % of a core, and
 *  0.3 % with the heap of a runtime that is known to grow unseen, while it has less than 40 MiB left. */
inline constexpr int64_t kTouchShortestNs = 50'000'000;
inline constexpr int64_t kTouchRuntimeShortestNs = 10'000'000;

/** The longest: of a runtime that is known to grow unseen (it wakes up more often itself), as often as that at the limit,
 *  0.05 % of a core; and of other processes that rest with much to touch, as rarely as they look at their group
 *  (idle_interval.h). */
inline constexpr int64_t kTouchRuntimeNs = 1'000'000'000;
inline constexpr int64_t kTouchRuntimeRestNs = 250'000'000;
inline constexpr int64_t kTouchLongestNs = 120'000'000'000;

/** How fast a program fills new memory while it does something with it; the kernel alone clears pages at ten times that. A
 *  quarter of the headroom at most is to be filled between two looks. */
inline constexpr int64_t kTouchBytesPerSecond = int64_t{1} << 30;

/** What can be touched unseen is worth a look from this share of the limit on: the rest is stacks and the allocator's
 *  reserve. */
inline constexpr int64_t kTouchLimitDivisor = 16;

/** The process rests while it uses less than this share of a processor, and its footprint moves by less than this share of
 *  the limit. A JVM that waits uses some 0.5 %. */
inline constexpr int64_t kTouchWorkDivisor = 64;
inline constexpr int64_t kTouchMovedDivisor = 256;

/** How many times as long the next interval is while the process rests. */
inline constexpr int64_t kTouchGrowth = 4;

/** What a look saw. */
struct TouchSight {
  int64_t now_ns = 0;
  int64_t cpu_ns = 0; /* CPU time of the whole process */
  int64_t footprint_bytes = 0;
  int64_t untouched_bytes = -1; /* mapped, writable and not resident; negative: unknown */
  int64_t headroom_bytes = 0;   /* negative: over the limit */
  int64_t limit_bytes = 0;      /* 0: off */
  bool grows_unseen = false;    /* a runtime is attached whose heap these figures do not show */
};

/** Plain data; value-initialise to begin. */
struct TouchWatch {
  TouchSight last;
  int64_t interval_ns = 0; /* 0: nobody has looked yet */
};

/** Whether the limit can be passed without a call that is seen. Without a limit: no. */
bool may_pass_unseen(const TouchSight& now) noexcept;

/** How long until the next look, after this one; INT64_MAX: none is needed, and the watch begins anew. */
int64_t next_touch_look_ns(TouchWatch& watch, const TouchSight& now) noexcept;

}  // namespace memlimit
