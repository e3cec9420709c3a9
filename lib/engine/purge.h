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

/** How long a turn lasts: other work of the thread's, and its end, wait for no more than this. The next one comes after
 *  as long a pause, so that purging takes half of a processor at most. A round of hooks ends the service thread's at once. */
inline constexpr int64_t kTurnNs = 4'000'000;

/** How thorough: what is dropped in one call is taken again in one fault for each page, so pieces of a page or two are
 *  worth it only where nothing else helps. */
enum class Depth : uint8_t { kLargePieces, kAll };

/** Purges on the calling thread, for a turn, and reads the footprint. Returns the bytes given back. A fork that comes in
 *  between ends it. */
int64_t run_turn(Depth depth) noexcept;

/** The same until nothing is left, also of what other threads are about to give back just now: for these it waits and looks
 *  again, a twentieth of a second at most. Theirs is not in the result. */
int64_t run_all() noexcept;

/** Has the service thread purge until nothing is left; where there is none, this thread does, for a turn. */
void ask(Depth depth) noexcept;

/** For the service thread: whether a turn is due; when the next one is, INT64_MAX if none is asked for. */
bool is_due() noexcept;
int64_t due_ns() noexcept;

/** For the service thread: a turn that is_due(). */
void serve() noexcept;

/** CPU time spent here, ever, nanoseconds; bytes given back, ever; purges that came to their end. */
int64_t cpu_ns() noexcept;
int64_t purged_bytes() noexcept;
int64_t ended() noexcept;

void fill(memlimit_stats* figures) noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::purge
