/* Spans: a slice cut into blocks of one class, and a bit for each of them.
 *
 * A slice is one of these at a time:
 *   free    nobody's, of no class; its bit in Region::free_slices is set
 *   owned   in the hands of whoever cleared that bit, or the bits of all its blocks, and is about to make it another of these
 *   a span  of its class: leased (a thread refills from it), offered (hints lead to its free blocks), or full; blocks come
 *           back to it in any case
 *   large   of a run that is one block, and belongs to whoever holds that; only the first slice has a class
 *
 * Invariants:
 *   - A set bit is a block that is free and nobody's. Whoever clears the bit owns the block, and nobody else touches
 *     it or its bit; whoever sets the bit has let go of it. Nothing is written into a free block.
 *   - A span changes its class, or becomes a free slice again, only in the hands of whoever cleared all of its bits.
 *     So who owns one block of it may rely on its class.
 *   - Everything else is a hint. Who claims by a hint looks at the class afterwards, when it cannot change any more,
 *     and puts back what it got of another class.
 *
 * Threads: all, without locks.
 */
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "heap/region.h"
#include "heap/size_classes.h"

namespace memlimit::heap {

/** A slice that may be a span. */
struct SpanRef {
  Region* region = nullptr;
  unsigned slice = 0;

  explicit operator bool() const noexcept { return region != nullptr; }
  char* base() const noexcept { return region->slice_address(slice); }
  SliceState& state() const noexcept { return region->slices[slice]; }
  std::atomic<uint8_t>& class_byte() const noexcept { return heap::class_byte(base()); }

  std::atomic<uint64_t>& word(unsigned index) const noexcept {
    // Turned by its number, or all lines of a slice would fall into the same set of the cache.
    const unsigned line = index / 8;
    return region->bitmaps[line][(slice + line * 8) % kSlicesPerRegion][index % 8];
  }
};

namespace spans {

/** The bits that a word has when all of its blocks are free. */
constexpr uint64_t full_word(const ClassInfo& info, unsigned index) noexcept {
  const unsigned rest = info.blocks - index * 64;
  return rest >= 64 ? ~uint64_t{0} : (uint64_t{1} << rest) - 1;
}

/** Leases a span of the class: one with free blocks, a free slice, or a new one. Empty: no memory. */
[[nodiscard]] SpanRef lease(unsigned class_index) noexcept;

/** Ends the lease: others may claim from it. It may be of another class by now. */
void end_lease(SpanRef span) noexcept;

/**
 * Claims the blocks of `wanted` that are free in a word; returns their bits, 0 when there are none or the span is of
 * another class by now. The caller has them.
 */
[[nodiscard]] uint64_t claim(SpanRef span, unsigned class_index, unsigned word,
                             uint64_t wanted) noexcept;

/**
 * Returns blocks that the caller has. The bits of those that are free already: a double free, for the caller to
 * report; the others are returned.
 */
uint64_t return_blocks(SpanRef span, unsigned class_index, unsigned word, uint64_t bits) noexcept;

/** As return_blocks(), for blocks whose pages nobody used meanwhile: they are not there to be purged. */
void put_back(SpanRef span, unsigned class_index, unsigned word, uint64_t bits) noexcept;

/** Notes that the pages of these blocks, which the caller has, are going to be used. */
void touch(SpanRef span, unsigned class_index, unsigned word, uint64_t bits) noexcept;

/** Clears all bits of a span that is wholly free: the caller owns the slice. False, and nothing changed, if it is not. */
[[nodiscard]] bool take_whole(SpanRef span, unsigned class_index) noexcept;

/** Sets the hints of a span that may have free blocks and is leased by nobody. */
void offer(SpanRef span, unsigned class_index) noexcept;

/** Free blocks of the span. Just a look: others go on claiming and returning. */
unsigned count_free(SpanRef span, unsigned class_index) noexcept;

/** Spans of the class. */
int64_t count(unsigned class_index) noexcept;

/** For who owns the slice: it is no span any more. */
void forget(SpanRef span, unsigned class_index) noexcept;

}  // namespace spans
}  // namespace memlimit::heap
