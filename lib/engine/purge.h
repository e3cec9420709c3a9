/* Giving the allocator's idle pages back to the kernel: the acts, and their figures.
 *
 * Answers for: the service thread purging for all threads, in bounded turns; purges by hand at once, on the thread that
 * asks. Refuses to decide when: purge_pacer.h. Threads: all, inside malloc and free.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"
#include "memlimit.h"

namespace memlimit::purge {

/** The most system calls of one turn, some two microseconds each. */
inline constexpr unsigned kTurnCalls = 2048;
inline constexpr unsigned kAllCalls = UINT32_MAX;

/** Purges on the calling thread, and reads the footprint. Returns the bytes given back. A fork that comes in between
 *  ends it. */
int64_t run(unsigned most_calls) noexcept;

/** Has the service thread purge; where there is none, this thread does, for a turn. */
void ask() noexcept;

/** For the service thread: whether ask() was called since. */
bool has_request() noexcept;
bool take_request() noexcept;

/** CPU time spent here, ever, nanoseconds; bytes given back, ever; purges that came to their end. */
int64_t cpu_ns() noexcept;
int64_t purged_bytes() noexcept;
int64_t ended() noexcept;

void fill(memlimit_stats* figures) noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::purge
