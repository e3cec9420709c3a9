/* Where to look first: for each kind of thing a tree of bits over all regions, 64 a level.
 *
 * A bit says that the region may have something of the kind: spans of a class with free blocks, spans that are wholly
 * free, free slices in runs of some length, something to purge. Bits are hints: one that is set may be stale, and
 * whoever follows it finds nothing, clears it and looks again. One that is missing while the thing is there is not
 * allowed:
 *   Invariant: whoever makes a thing sets its bits afterwards; whoever clears a bit looks for the thing afterwards,
 *   and sets the bit again if it is there. Both steps are sequentially consistent, so one of the two sees the other.
 * Found are the lowest regions first, which keeps the heap dense.
 *
 * Threads: all, without locks. Three levels of 64 are 2^18 regions of 4 MiB: a heap of 1 TiB.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "heap/size_classes.h"

namespace memlimit::heap {

struct Region;

/* Kinds 1 ... kSpanClasses: spans of the class that have free blocks and are leased by nobody. */
inline constexpr unsigned kEmptySpans = kSpanClasses + 1; /* of any class, all of its blocks free */
inline constexpr unsigned kFreeRuns =
    kSpanClasses + 2; /* + i: a run of at least kRunLengths[i] free slices */
inline constexpr unsigned kRunLengths[] = {1, 4, 16, 64};
inline constexpr unsigned kWholeRegions = kFreeRuns + 3; /* of which all slices are free */
inline constexpr unsigned kDirtySlices = kFreeRuns + 4;  /* free slices that may be resident */
inline constexpr unsigned kFreedSpans = kFreeRuns + 5;   /* spans to which blocks were returned */
inline constexpr unsigned kHintKinds = kFreeRuns + 6;

inline constexpr uint32_t kMaxRegions = 64 * 64 * 64;
inline constexpr uint32_t kNoRegion = UINT32_MAX;

namespace hints {

/** Gives the region a place; false when there is no memory for it. Before any other call with this id. */
bool make_room(uint32_t region_id) noexcept;

void set_region(uint32_t region_id, Region* region) noexcept;

/** nullptr for an id that was never given. */
Region* region(uint32_t region_id) noexcept;

void set(unsigned kind, uint32_t region_id) noexcept;

/** The lowest region not below `from` with the bit set, or kNoRegion. */
uint32_t find(unsigned kind, uint32_t from = 0) noexcept;

/** Whether find() may find something: one load. Stale as long as nobody looks. */
bool any(unsigned kind) noexcept;

/** The caller looks again afterwards; see the invariant. */
void clear(unsigned kind, uint32_t region_id) noexcept;

}  // namespace hints
}  // namespace memlimit::heap
