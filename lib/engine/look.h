/* The engine: sample -> pacer -> hooks and purge -> record, and the limit itself.
 *
 * Answers for: noticing from the program's own allocations that a round is due, handing it to the right
 * threads, measuring what came of it, making allocating threads wait a bounded time when they are over
 * the limit, and giving idle pages back. Refuses to know the allocator: what it can do comes in as
 * AllocatorOps. Nothing here ever makes an allocation fail.
 * Threads: all. after_allocation() and after_free() run inside malloc and free.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/fork.h"
#include "engine/hooks.h"
#include "engine/service.h"
#include "memlimit.h"
#include "observe/event_ring.h"
#include "observe/stats.h"
#include "pacing/pacer.h"
#include "settings/config.h"

namespace memlimit::reclaim {

/** What the engine may ask of the allocator. Called with the reentrancy guard set. */
struct AllocatorOps {
  /** Gives the calling thread's idle pages, and those of exited threads, back to the kernel. */
  void (*collect)() noexcept;
  /** How eagerly the allocator gives pages back by itself at this level. kOver: at once, for idle pages are
   *  what fills the limit. */
  void (*set_eagerness)(Level level) noexcept;
  /** madvise calls the allocator has made. */
  int64_t (*madvise_calls)() noexcept;
  /** A pass of the ASYNC hooks is over, in which every free was looked at (account::look_at_every_free). On the
   *  service thread. */
  void (*pass_ended)() noexcept;
  /** Bytes of blocks that hooks freed and that are kept for the next allocations. */
  int64_t (*kept_bytes)() noexcept;
  /** Frees those. On any thread. */
  void (*free_kept)() noexcept;
  /** Bytes that the program has mapped itself and may write to. */
  int64_t (*mapped_bytes)() noexcept;
};

/** Once, at start, before the limit is set. */
void configure(const Config& config, const AllocatorOps& ops) noexcept;

/** The limit in force, 0 = off. One atomic load. */
int64_t limit_bytes() noexcept;

/** Sets it (0 or less: off) and looks at once. `text` says where it came from, for the statistics; copied.
 *  Returns the old one. */
int64_t set_limit(int64_t bytes, LimitSource source, const char* text) noexcept;

/** The same, if `from` is what is in force; false: it is not, and nothing was done. */
bool replace_limit(int64_t from, int64_t bytes, LimitSource source, const char* text) noexcept;

/** Level at the last look. */
Level level() noexcept;

/** A thread has just published after allocating this many bytes in one request. */
void after_allocation(int64_t bytes) noexcept;

/** A thread has just published after freeing. */
void after_free() noexcept;

/** A thread has just mapped this many bytes of its own (or made them writable): counts for the pacing as
 *  an allocation does, though not as usage. In any context, a signal handler inside malloc too: waits for
 *  no lock, leaves the thread's heap alone and calls no hook; what that takes is left to the service
 *  thread, and to the thread's next allocation, which also starts one. Keeps errno. */
void after_mapping(int64_t bytes) noexcept;

/** A thread has just unmapped this many bytes, or told the kernel to drop them: the footprint is read
 *  again the sooner. */
void after_unmapping(int64_t bytes) noexcept;

/** At a runtime's safe point: how many bytes of the round are still worth freeing, after reading the
 *  footprint. */
int64_t wanted_at_safe_point(const hooks::Pass& pass, int64_t freed_bytes) noexcept;

/** The runtime has reclaimed, freeing this much by the calling thread: gives the allocator's idle pages
 *  back, as nothing would reach the kernel otherwise. Returns the footprint after that. */
int64_t purge_after_runtime(int64_t freed_bytes) noexcept;

/** A runtime has done its part of the round. `ends`: it was the last one who could; `counts`: what it
 *  freed can be told already. */
void safe_point_ran(const hooks::Pass& pass, int64_t began_ns, int64_t freed_bytes, int64_t cpu_ns,
                    bool ends, bool counts) noexcept;

/** The round need not be run any more. */
void safe_point_skipped() noexcept;

/** memlimit_reclaim(). */
int64_t reclaim_now(int64_t bytes) noexcept;

/** Gives idle pages back now: the caller's, those of exited threads, and, at their next operation, those
 *  of all other threads. Returns how much the footprint fell during the call, bytes. */
int64_t purge_now() noexcept;

/** memlimit_poll_fd() and memlimit_poll(). */
int poll_fd() noexcept;
int poll() noexcept;

/** For the service thread, every so often: with MEMLIMIT_ACCOUNT=cgroup looks at the group, which others
 *  fill while this process allocates nothing. */
void look_at_group() noexcept;

/** Whether usage has come far enough for a service thread to be worth having. */
bool wants_service() noexcept;

/* The socket is asked for figures up to a hundred times a second, and reading /proc/self/status was 46 of
 * the 110 microseconds that an answer then took (measured at that rate, so with cold caches). */
inline constexpr int64_t kRssAgeNs = 100'000'000;

/** Fills in what the engine knows: the figures alone, or with histograms, hooks and texts but
 *  the name. Reads /proc: rss_anon may be max_age_ns old, in a Snapshot kRssAgeNs. About a hundred bytes
 *  of stack, or as much as the Snapshot. */
void fill_figures(memlimit_stats* figures, int64_t max_age_ns = 0) noexcept;
void fill(Snapshot* snapshot) noexcept;

/** What the service thread does for rounds. */
extern const service::Task kTask;
extern const fork::Part kForkPart;

}  // namespace memlimit::reclaim
