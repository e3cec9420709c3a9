/* The number that is held to the limit, and what it is made of.
 *
 * Answers for: MEMLIMIT_ACCOUNT, also where `auto` has to find out what fits (a limit taken from the
 * container; a runtime with a heap of its own); the last figures of the process's footprint and of its
 * group's working set. Refuses to decide when they are read, and what follows from them (decision.h).
 * Threads: all; also inside malloc. No lock that anybody waits for, no allocation; errno is kept by read().
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"
#include "settings/config.h"
#include "system/cgroup.h"
#include "system/memory_file.h"

namespace memlimit::paced {

/** What `auto` goes by. Of two that hold the container wins. */
enum class Hint : unsigned {
  kContainerLimit = 1, /* the limit is a share of the container's memory */
  kRuntimeHeap = 2,    /* a runtime is attached whose heap malloc does not see */
};

/** As MEMLIMIT_ACCOUNT says; at start, and whenever something is found out. Threads: any. */
void configure(AccountMode asked) noexcept;
void set_hint(Hint hint, bool holds) noexcept;

/** The group whose working set counts in `cgroup`, found already; lives for ever. Null: none. */
void set_group(MemoryGroup* group) noexcept;

/** The file in memory that a runtime has its heap in; lives for ever. The footprint is anonymous memory and this: the
 *  kernel counts the file's pages as shared ones. */
void set_heap_file(const MemoryFile* file) noexcept;

/** What is paced now: never kAuto. */
AccountMode mode() noexcept;

/** "heap", "rss", "cgroup", or what stands in for it while the group cannot be read. */
const char* mode_name() noexcept;

/**
 * The paced number; a few atomic loads. In `heap` usage and overhead, in `rss` the larger of usage and footprint, in
 * `cgroup` the same of this process and what others had of the working set at the last read().
 *
 * Idle pages of the allocator (footprint less usage) are for a purge to give back, and no reason to empty
 * caches: in `heap` and `cgroup` they count only while they pass the limit, see set_footprint_over().
 * Measured, with hooks asked for them too: a cache that could hold 100 MiB was brought down to 21. Where a
 * runtime has a heap that malloc does not see the two cannot be told apart, and all of it counts.
 */
int64_t bytes() noexcept;

/** Whether bytes() is the group's: the part of others in it is known. */
bool counts_group() noexcept;

/** bytes() with the idle pages: what the kernel counts. */
int64_t bytes_with_idle() noexcept;

/** What is left until the kernel kills, in `cgroup`; negative: it cannot be told. */
int64_t room_bytes() noexcept;

/** What this limit leaves of the container's memory, in `cgroup`; negative: it cannot be told. */
int64_t room_above_bytes(int64_t limit_bytes) noexcept;

/** Whether idle pages of this process are part of bytes(). */
bool idle_counts() noexcept;

/** The part of bytes() that is this process's own. */
int64_t own_bytes() noexcept;

/** What this process holds, idle pages and all. */
int64_t held_bytes() noexcept;

/** How old a figure of the group's working set may be: a read costs 20 microseconds, and 10 ms of one
 *  process's page faults are some 20 MiB. */
inline constexpr int64_t kGroupMaxAgeNs = 10'000'000;

/** Reads the footprint, and the group when it counts and the last figure is older than this. Returns the
 *  footprint, negative when it cannot be read. A descriptor stays open when `keep_open`. About 4 KiB of stack. */
int64_t read(bool keep_open, int64_t group_max_age_ns = kGroupMaxAgeNs) noexcept;

/** Anonymous memory that was read elsewhere; negative: it could not be. */
void note_footprint(int64_t bytes) noexcept;

/** The last footprint read, without a system call. */
int64_t footprint_bytes() noexcept;

/** What was mapped and could be touched without a call when read() was last called; negative: unknown. */
int64_t untouched_bytes() noexcept;

/** Working set of the group, at most 10 ms old; 0 when there is none to read. */
int64_t group_bytes() noexcept;

/** bytes_with_idle() is over the limit, and therefore what is paced until it has fallen.
 *  Returns whether that is news. */
bool set_footprint_over(bool over) noexcept;

/** As set last. */
bool footprint_over() noexcept;

/** What the footprint had beyond usage when it was last read; negative: it has not been since the last call. */
int64_t take_beyond_usage() noexcept;

/** What the allocator takes for its blocks and no purge brings back (overhead.h): counts with usage. */
void set_overhead(int64_t bytes) noexcept;

/** As set last. */
int64_t overhead_bytes() noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::paced
