/* What the heap holds: exact sums at quiescence, read from any thread without a lock.
 *
 * Live bytes are what was taken from spans, slices and the page source, less what was returned, less what lies in the
 * threads' stacks. While threads work each figure is one of its recent values, and they need not fit together.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "heap/thread_cache.h"

namespace memlimit::heap {

struct HeapFigures {
  uint64_t taken_bytes, returned_bytes; /* from and to spans and the source, ever */
  uint64_t cached_bytes;                /* in threads' stacks */
  uint64_t lost_bytes;                  /* given up in the child of a fork */
  uint64_t allocated_bytes;             /* handed out to the program, ever */
  uint64_t large_bytes, huge_bytes;     /* live, in runs of slices and in mappings of their own */
  uint64_t region_bytes, record_bytes;  /* mapped */

  int64_t held_bytes() const noexcept { return static_cast<int64_t>(taken_bytes - returned_bytes); }
  int64_t live_bytes() const noexcept {
    return held_bytes() - static_cast<int64_t>(cached_bytes + lost_bytes);
  }
};

struct ClassFigures {
  uint32_t block_bytes;  /* 0: they differ */
  int64_t spans;         /* of a large block: its run */
  int64_t live_blocks;   /* with the program */
  int64_t live_bytes;    /* and what they have */
  int64_t free_blocks;   /* in spans */
  int64_t cached_blocks; /* in threads' stacks */
  int64_t purged_pages; /* of spans; of no class: of free slices, also those that were never used */
};

struct ThreadFigures {
  int32_t tid;
  int64_t held_bytes; /* taken less returned: negative for one that frees what others allocate */
  int64_t cached_bytes;
  int64_t live_bytes() const noexcept { return held_bytes - cached_bytes; }
};

namespace figures {

/** Walks the threads' caches. */
HeapFigures totals() noexcept;

/** Of all classes: the small ones, kLargeClass and kHugeClass, and what is no block's under kNoClass. One walk over all
 *  spans and the threads' caches. */
void by_class(ClassFigures (&out)[kBins]) noexcept;

/** Of one; walks as far. */
ClassFigures of_class(unsigned class_index) noexcept;

/** Threads that own a cache now. */
void for_each_thread(void (*visit)(const ThreadFigures&, void*), void* arg) noexcept;

/** What is held, as of the threads' last looks: one load, off by at most a quantum a thread. */
int64_t published_held_bytes() noexcept;

/** The highest of that. */
int64_t peak_held_bytes() noexcept;

/** A thread looks: it holds so much more. */
void publish(int64_t more_bytes) noexcept;

}  // namespace figures
}  // namespace memlimit::heap
