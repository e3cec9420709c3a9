/* Assist: over the limit, an allocating thread waits for the ASYNC hooks, so that allocation cannot
 * simply outrun reclaim.
 *
 * Answers for: a bounded wait, and for the same step of a pass no other before the thread has run for as long as it
 * waited; giving up, more and more lastingly, when waiting brings nothing (the thread may hold the very lock that the
 * hook needs).
 * Refuses to decide whether the thread is over the limit. Threads: wait() by the program's threads inside
 * malloc; the rest by the service thread and whoever asks it for work.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "memlimit.h"
#include "stats.h"

namespace memlimit::assist {

/** What must be freed meanwhile, by whomever, for a wait to have been worth it. */
inline constexpr int64_t kProgressBytes = int64_t{16} << 10;

/** A wait shorter than this part of the longest tells nothing: frees are published in batches, and steps end at once
 *  where there is nothing to give. Measured, a cache at 256 MiB filled by four threads on two cores, when such waits
 *  counted as in vain: peak usage 1.02 to 1.05 of the limit, without them 1.00 to 1.02. */
inline constexpr int64_t kTellingDivisor = 16;

/** After a wait in vain nobody waits for as long as the longest one may be, after each further one in a row for twice
 *  as long, up to so many doublings. */
inline constexpr int kMostDoublings = 8;

/** One wait, as it was. */
struct Wait {
  int64_t longest_ns = 0; /* that it might have been */
  int64_t began_ns = 0;
  int64_t waited_ns = 0;
  int64_t freed_bytes = 0; /* meanwhile */
};

/** While nobody waits. Pure but for its own two words: numbers in. Threads: any; of those that waited at the same time
 *  the first to go on speaks for all. */
class Pause {
 public:
  bool is_over(int64_t now_ns) const noexcept {
    return now_ns >= until_ns_.load(std::memory_order_relaxed);
  }
  void learn(const Wait& wait) noexcept;
  void reset() noexcept {
    until_ns_.store(0, std::memory_order_relaxed);
    in_vain_.store(0, std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t> until_ns_{0};
  std::atomic<int> in_vain_{0}; /* waits, since one was worth it */
};

/** Longest wait; 0: nobody ever waits. Once, at start. */
void configure(int64_t longest_ns) noexcept;

/** Somebody has asked the service thread to run ASYNC hooks. */
void work_requested() noexcept;

/** The service thread has got one step further: waiting threads go on. */
void step_done() noexcept;

/** Nothing is asked for any more: waiting threads go on, and nobody waits until work_requested(). */
void work_done() noexcept;

/** Waits for the next step, if there is one to wait for, no pause, and the calling thread has not just waited for it; or if
 *  the kernel is about to kill (`insist`): then waiting costs nothing that counts for the limiter. Not for ever: a
 *  step that does not end for too long is not insisted on. */
void wait(bool insist = false) noexcept;

void fill(memlimit_stats* figures) noexcept;
HistogramCopy histogram() noexcept;

/** Time that threads have spent waiting, ever. */
int64_t waited_ns() noexcept;

void reset_after_fork() noexcept;

}  // namespace memlimit::assist
