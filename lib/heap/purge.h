/* Giving pages back to the kernel: purge from any thread, of all threads' spans; and decay, which needs no thread.
 *
 * Purge takes what is free as an owner would: it clears the bits, so that what it works on is its own, has the kernel
 * drop the pages, and sets the bits again. Nobody waits for it; who needs a block meanwhile takes another. Slices that
 * were never used or are purged already, and spans to which nothing was returned since, are skipped.
 * A madvise(2) costs microseconds, so each call names how many it may make; the caller paces.
 *
 * Threads: all; several at once share the work.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "heap/size_classes.h"

namespace memlimit::heap {

struct PurgeResult {
  size_t bytes;   /* given back, as far as they were resident */
  unsigned calls; /* of madvise */
  bool complete;  /* all was looked at, or the kernel refuses */
};

/** Free slices first, then spans, of which runs of pages that are shorter than so much are left. `next_region`: where among
 *  them the caller's last call ended, and this one did; 0 to begin with, and when it is complete. A program that goes on
 *  frees behind it what a purge without end would follow for ever. */
PurgeResult purge(unsigned most_calls, size_t least_run_bytes = 0,
                  uint32_t* next_region = nullptr) noexcept;

/** Of the pages of a slice those to drop, a bit for each of kPageBytes: free, and not all dropped yet. The kernel's pages have
 *  `group` of them, and go or stay as one: it rounds a length up, over whatever lies there. */
constexpr uint32_t due_pages(uint32_t free, uint32_t purged, unsigned group) noexcept {
  if (group <= 1) return free & ~purged;
  uint32_t due = 0;
  for (unsigned first = 0; first + group <= kPagesPerSlice; first += group) {
    const uint32_t mask = ((1U << group) - 1) << first;
    if ((free & mask) == mask && (purged & mask) != mask) due |= mask;
  }
  return due;
}

namespace decay {

inline constexpr int64_t kDefaultDelayMs = 50;

/** Free slices are purged once they have been free for so long; 0: never, the owner purges. */
void set_delay_ms(int64_t ms) noexcept;

/** Slices fell free, or spans became empty: now and then it looks for those that have been so for long. */
void note_free_slices() noexcept;

}  // namespace decay
}  // namespace memlimit::heap
