/* Assist: over the limit, an allocating thread waits for the ASYNC hooks, so that allocation cannot
 * simply outrun reclaim.
 *
 * Answers for: a bounded wait, never twice for the same step of a pass; giving up, more and more
 * lastingly, when waiting brings nothing (the thread may hold the very lock that the hook needs).
 * Refuses to decide whether the thread is over the limit. Threads: wait() by the program's threads inside
 * malloc; the rest by the service thread and whoever asks it for work.
 */
#pragma once

#include <cstdint>

#include "memlimit.h"
#include "stats.h"

namespace memlimit::assist {

/** Longest wait; 0: nobody ever waits. Once, at start. */
void configure(int64_t longest_ns) noexcept;

/** Somebody has asked the service thread to run ASYNC hooks. */
void work_requested() noexcept;

/** The service thread has got one step further: waiting threads go on. */
void step_done() noexcept;

/** Nothing is asked for any more: waiting threads go on, and nobody waits until work_requested(). */
void work_done() noexcept;

/** Waits for the next step, if there is one to wait for and the calling thread has not waited for it, or if
 *  the kernel is about to kill (`insist`): then waiting costs nothing that counts for the limiter. Not for ever: a
 *  step that does not end for too long is not insisted on. */
void wait(bool insist = false) noexcept;

void fill(memlimit_stats* figures) noexcept;
HistogramCopy histogram() noexcept;

/** Time that threads have spent waiting, ever. */
int64_t waited_ns() noexcept;

void reset_after_fork() noexcept;

}  // namespace memlimit::assist
