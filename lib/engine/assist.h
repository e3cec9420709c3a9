/* Assist: close to the limit, an allocating thread waits for the ASYNC hooks, so that allocation cannot
 * simply outrun reclaim.
 *
 * Answers for: a bounded wait, never twice for the same step of a pass unless that lacks a processor; giving up, more and more
 * lastingly, when waiting brings nothing (the thread may hold the very lock that the hook needs).
 * Refuses to decide whether the limit is close. Threads: wait() by the program's threads inside
 * malloc; the rest by the service thread and whoever asks it for work.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/fork.h"
#include "memlimit.h"
#include "observe/stats.h"

namespace memlimit::assist {

/** What must be freed meanwhile for a wait to have been worth it. Once a step has ended: what the hooks gave in it, or by
 *  how much usage fell, for others free what they allocate as well. Before that whatever was freed, by whomever. */
inline constexpr int64_t kProgressBytes = int64_t{16} << 10;

/** A wait shorter than this part of the longest tells nothing: frees are published in batches, and steps end at once
 *  where there is nothing to give. Measured, a cache at 256 MiB filled by four threads on two cores, when such waits
 *  counted as in vain: peak usage 1.02 to 1.05 of the limit, without them 1.00 to 1.02. Together they count as one once
 *  they are as long as the longest: hooks may have nothing to give for as long as the program lives. Measured, two
 *  threads that free what they allocate, over the limit with a hook that returns 0: waiting for 1.1 of 2 seconds, with
 *  this for 0.02. */
inline constexpr int64_t kTellingDivisor = 16;

/** After a wait in vain nobody waits for this many steps, after each further one in a row for twice as many, up to the
 *  last. A wait at whose end the service thread would run, but has no processor, was not in vain: without it there are
 *  only more who want one. Nor is it held against reclaim (limiter.h). Measured, that cache beside three processes that
 *  compute: peak usage 1.04 to 2.2 of the limit, with this rule 1.01 to 1.08. */
inline constexpr uint32_t kFirstSkips = 1;
inline constexpr uint32_t kMostSkips = 256;

/** One wait, as it was. */
struct Wait {
  int64_t longest_ns = 0; /* that it might have been */
  int64_t waited_ns = 0;
  int64_t freed_bytes = 0; /* meanwhile */
  bool starved = false;    /* at its end the service thread waited for a processor */
};

/** The steps that nobody waits for. Pure but for its own words: numbers in. Threads: any. */
class Skips {
 public:
  /** Once for each step and thread: whether it is not to be waited for. */
  bool take() noexcept;
  void learn(const Wait& wait) noexcept;
  void reset() noexcept {
    left_.store(0, std::memory_order_relaxed);
    next_.store(kFirstSkips, std::memory_order_relaxed);
    short_ns_.store(0, std::memory_order_relaxed);
    short_freed_bytes_.store(0, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint32_t> left_{0};
  std::atomic<uint32_t> next_{kFirstSkips};
  /* Of short waits, since they told something together. */
  std::atomic<int64_t> short_ns_{0};
  std::atomic<int64_t> short_freed_bytes_{0};
};

/** Longest wait; 0: nobody ever waits. Once, at start. */
void configure(int64_t longest_ns) noexcept;

/** The thread that runs the ASYNC hooks; from that thread. */
void set_worker(int tid) noexcept;

/** Somebody has asked the service thread to run ASYNC hooks. */
void work_requested() noexcept;

/** The service thread has got one step further, in which hooks gave so much: waiting threads go on. */
void step_done(int64_t given_bytes) noexcept;

/** Nothing is asked for any more: waiting threads go on, and nobody waits until work_requested(). */
void work_done() noexcept;

/** Waits for the next step, if there is one to wait for and the calling thread has not waited for it in vain, or if
 *  the kernel is about to kill (`insist`): then waiting costs nothing that counts for the limiter. Not for ever: a
 *  step that does not end for too long is not insisted on. */
void wait(bool insist = false) noexcept;

void fill(memlimit_stats* figures) noexcept;
HistogramCopy histogram() noexcept;

/** Time that threads have spent waiting, ever, as far as reclaim is to blame. */
int64_t waited_ns() noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::assist
