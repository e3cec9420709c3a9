/* What the heap holds: exact sums at quiescence, read from any thread without a lock.
 *
 * Live bytes are what was taken from spans, slices and the page source, less what was returned, less what lies in the
 * threads' stacks. While threads work each figure is one of its recent values, and they need not fit together.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "heap/huge.h"
#include "heap/thread_cache.h"

namespace memlimit::heap {

struct HeapFigures {
  uint64_t taken_bytes, returned_bytes; /* from and to spans and the source, ever */
  uint64_t cached_bytes;                /* in threads' stacks */
  uint64_t lost_bytes;                  /* given up in the child of a fork */
  uint64_t allocated_bytes;             /* handed out to the program, ever */
  uint64_t freed_bytes;                 /* by the program, ever */
  uint64_t large_bytes, huge_bytes;     /* live, in runs of slices and in mappings of their own */
  uint64_t region_bytes;                /* mapped for slices */
  uint64_t record_bytes;                /* mapped for what the heap notes about them */

  int64_t held_bytes() const noexcept { return static_cast<int64_t>(taken_bytes - returned_bytes); }
  int64_t live_bytes() const noexcept {
    return static_cast<int64_t>(allocated_bytes - freed_bytes);
  }
};

/** What the heap keeps beyond the live blocks, without a walk over the spans. */
struct IdleFigures {
  int64_t spans;
  int64_t free_bytes; /* free blocks in spans */
  huge::Figures huge;
};

/**
 * Of a class. A block is live, free, cached, or was given up in the child of a fork. Large blocks have no block size, and
 * their slices count as spans. Huge ones are cached when they are kept for the next request. Under kNoClass are the free
 * slices of regions.
 */
struct ClassFigures {
  uint32_t block_bytes;
  int64_t spans;
  int64_t live_blocks;     /* with the program */
  int64_t free_blocks;     /* in spans */
  int64_t cached_blocks;   /* in threads' stacks */
  int64_t popped_blocks;   /* handed out ever, to threads with a cache; of small classes */
  int64_t purged_pages;    /* zero pages of spans, and of free slices */
  int64_t live_bytes;      /* of the live blocks */
  int64_t purgeable_bytes; /* what a purge gives back, at most */
};

struct ThreadFigures {
  int32_t tid;
  int64_t held_bytes; /* taken less returned: negative for one that frees what others allocate */
  int64_t cached_bytes;
  int64_t live_bytes() const noexcept { return held_bytes - cached_bytes; }
};

/** What the calling thread has done since it began, and the blocks of others that it has freed. */
struct OwnFigures {
  uint64_t allocated_bytes;
  uint64_t freed_bytes;
};

namespace figures {

/** Walks the threads' caches. */
HeapFigures totals() noexcept;

/** As of these totals. */
IdleFigures idle(const HeapFigures& totals) noexcept;

/** Of every class, in one walk over all spans and caches: kBins rows, by class; a twin's figures are in its class's row. A purge under way shows blocks that it
 *  holds as live. */
void by_class(ClassFigures (&out)[kBins]) noexcept;

/** The same of one class, by the same walk. */
ClassFigures of_class(unsigned class_index) noexcept;

/** Threads that own a cache now, each with what it did itself. */
void for_each_thread(void (*visit)(const ThreadFigures&, void*), void* arg) noexcept;

/** Of the calling thread, exact; zero without a cache, which is all that threads do after their destructors. */
OwnFigures own() noexcept;

/** All others together, with a tid of 0: threads that ended, or have no cache. */
ThreadFigures other_threads() noexcept;

}  // namespace figures
}  // namespace memlimit::heap
