/* What the allocator holds, as programs that ask their malloc want to know it.
 *
 * Everything is the heap's own count: live bytes to the byte, the rest by a walk over its spans, at one moment each.
 * Nothing is asked of the kernel, so pages that were never touched count as held; each figure says whether it does.
 * Threads: any; no lock, no allocation.
 */
#pragma once

#include <cstddef>

#include "heap/figures.h"

namespace memlimit {

struct HeapReport {
  size_t live_bytes; /* of blocks with the program */
  size_t peak_bytes; /* most there ever were */

  size_t region_bytes;      /* mapped for small and large blocks, touched or not */
  size_t record_bytes;      /* mapped for the heap's own records, touched or not */
  heap::huge::Figures huge; /* blocks beyond, with mappings of their own */

  size_t cached_blocks, cached_bytes; /* free, kept by threads for themselves */
  size_t free_blocks, free_bytes;     /* free in spans */
  size_t free_slices;                 /* of 64 KiB, in no span */

  size_t
      active_bytes; /* pages of live blocks, and free ones between them that no purge has reached */
  size_t dirty_bytes;     /* pages of free slices and kept blocks that no purge has reached */
  size_t extent_bytes;    /* spans and large blocks, to the slice, and mappings of huge ones */
  size_t retained_bytes;  /* free slices without pages: address space alone */
  size_t purgeable_bytes; /* what a purge gives back, at most */

  size_t slice_bytes() const noexcept { return free_slices * heap::kSliceBytes; }
  /** All that is free in regions. */
  size_t idle_bytes() const noexcept { return cached_bytes + free_bytes + slice_bytes(); }
};

using HeapClasses = heap::ClassFigures[heap::kBins];

/** With the rows of all classes, or without. */
HeapReport heap_report(HeapClasses& classes) noexcept;
HeapReport heap_report() noexcept;

/** Bytes of live blocks: what needs no walk. */
size_t heap_live_bytes() noexcept;

}  // namespace memlimit
