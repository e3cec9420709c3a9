/* What the engine may ask of the allocator: a table of functions that whoever brings the allocator hands in.
 *
 * Refuses to know which allocator it is. Threads: set_allocator() once, at start; the table is then read by all.
 */
#pragma once

#include <cstdint>

#include "observe/heap_text.h"

namespace memlimit {

/** What the allocator holds, bytes: exact when no thread is at work. */
struct AllocatorTotals {
  int64_t allocated; /* handed out to the program, ever */
  int64_t live;      /* of that, not freed */
  int64_t taken;     /* by threads, for themselves and the program, ever: account.h's publish() */
  int64_t returned;
};

/** What it holds beyond that, and where: bytes unless said otherwise. */
struct AllocatorHeld {
  int64_t cached;  /* free blocks that threads keep for themselves */
  int64_t free;    /* free small blocks for any thread */
  int64_t large;   /* live, in runs of slices */
  int64_t huge;    /* live, in mappings of their own */
  int64_t kept;    /* such mappings without a block, for the next request */
  int64_t lost;    /* given up in the child of a fork */
  int64_t spans;   /* how many */
  int64_t regions; /* mapped for slices */
  int64_t records; /* mapped for what it notes about them */
};

/** What a purge came to. */
struct Purged {
  int64_t bytes;
  bool complete; /* all was looked at */
};

/** All of them from any thread, inside malloc too, unless said otherwise. None allocates. */
struct AllocatorOps {
  AllocatorTotals (*totals)() noexcept;
  /** Looks at each thread and each size class. */
  AllocatorHeld (*held)() noexcept;
  /** Hands over a row a size class and a row a thread; looks at every span. */
  void (*rows)(const HeapVisitor& visitor) noexcept;
  /** What the calling thread has freed less what it has allocated, ever; a constant for a thread without counters. */
  int64_t (*own_net_freed)() noexcept;
  /** Threads that have counters. */
  int (*thread_count)() noexcept;
  /** The calling thread publishes what it has not yet; `and_flush`: what it keeps for its next allocations becomes
   *  everybody's before. */
  void (*publish_own)(bool and_flush) noexcept;
  /** How much a thread may take or return before it looks up and publishes. */
  void (*set_quantum_bytes)(int64_t bytes) noexcept;
  /** What all threads together may keep for their next allocations. */
  void (*set_cache_bytes)(int64_t bytes) noexcept;
  /** Mean number of allocated bytes between two blocks that are sampled for the heap profile; 0: none is. Each thread
   *  follows at its next refill. */
  void (*set_sample_interval_bytes)(int64_t bytes) noexcept;
  /** The thread's next allocation looks up, however small. In any context, a signal handler too. */
  void (*look_at_next_allocation)() noexcept;
  /** Gives idle pages of all threads back to the kernel, in at most so many system calls; pieces between blocks in use
   *  that are smaller than so much are left. `position`: of whoever purges in several calls, 0 to begin with. */
  Purged (*purge)(unsigned most_calls, int64_t least_bytes, uint32_t* position) noexcept;
  /** System calls that did that, and those of the allocator behind. */
  int64_t (*madvise_calls)() noexcept;
  /** Bytes that the program has mapped itself and may write to. */
  int64_t (*mapped_bytes)() noexcept;
};

/** Before it is called every function does nothing: statistics may be read before there is an allocator to ask. */
void set_allocator(const AllocatorOps& ops) noexcept;

/** The table in force. */
const AllocatorOps& allocator() noexcept;

}  // namespace memlimit
