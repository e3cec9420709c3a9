/* Regions of 4 MiB, each 64 slices of 64 KiB: who owns which slice.
 *
 * Regions come from the page source in chunks of one to sixteen. A region's record lies outside of it, in memory that
 * is never given back: a stale hint may lead to it at any time.
 *
 * The first region is mapped piece by piece, where the source can do that: a small program has little address space to
 * spare. Slices that are not there yet are nobody's and not free.
 *
 * Free slices are bits of a word, as free blocks are:
 *   Invariant: a set bit is a slice that is free and nobody's. Whoever clears the bit owns the slice, sets its class
 *   byte and may touch its pages, until it clears the class byte and sets the bit again.
 * `dirty` tells which slices may hold other pages than zero pages: what was never handed out, or purged since, needs
 * neither purging nor zeroing.
 *
 * Threads: all, without locks. A thread that finds another one mapping a chunk waits for it for a bounded time.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "heap/address_map.h"
#include "heap/hints.h"
#include "heap/size_classes.h"

namespace memlimit::heap {

struct PageSource;

inline constexpr unsigned kSlicesPerRegion = kRegionBytes / kSliceBytes;
static_assert(kSlicesPerRegion == 64, "the slices of a region are the bits of a word");

/** What is known of a slice beside its class byte. */
struct SliceState {
  std::atomic<uint8_t> leased;        /* a span: a thread claims from it; a hint */
  std::atomic<uint8_t> freed;         /* a span: blocks were returned since the last purge */
  std::atomic<uint16_t> purged_pages; /* a span: zero pages, one bit each */
  std::atomic<uint16_t> run_slices;   /* a large block: of how many */
  std::atomic<uint16_t> run_pages;    /* and how many pages of them are its */
};

/* Aligned so that a slice fits below its address. */
struct alignas(64) Region {
  std::atomic<char*> base; /* changes while the region is nobody's only */
  uint32_t id;
  uint32_t chunk_regions; /* the first region of a chunk: how many; others: 0 */
  uint32_t chunk_index;   /* which one of the chunk's */
  const PageSource* source;
  std::atomic<Region*> next_free; /* of the first regions of chunks that were given back */

  std::atomic<uint64_t> free_slices;
  std::atomic<uint64_t> dirty;
  std::atomic<uint64_t> aged;        /* free and dirty since decay came by the last time */
  std::atomic<uint64_t> empty_spans; /* hint, by slice */
  std::atomic<uint64_t> aged_spans;  /* the same when decay came by */
  std::atomic<uint64_t>
      partial_spans[kSmallClasses + 1]; /* hint, by class and slice; 0 is unused */
  SliceState slices[kSlicesPerRegion];
  /* The words of the slices' bitmaps, a cache line of them at a time: the first line of each slice, then the second of
   * each, and so on. Spans of blocks from 128 bytes on have one line: so a region of them touches one page of these. */
  std::atomic<uint64_t> bitmaps[8][kSlicesPerRegion][8];
  std::atomic<uint64_t> partial_twins[kSmallClasses + 1]; /* last: untouched while nobody samples */

  std::atomic<uint64_t>& partial(unsigned class_index) noexcept {
    return class_index <= kSmallClasses ? partial_spans[class_index]
                                        : partial_twins[without_twin(class_index)];
  }
  char* begin() const noexcept { return base.load(std::memory_order_relaxed); }
  char* slice_address(unsigned slice) const noexcept {
    return begin() + size_t{slice} * kSliceBytes;
  }
  unsigned slice_of(const void* address) const noexcept {
    return static_cast<unsigned>(static_cast<size_t>(static_cast<const char*>(address) - begin()) >>
                                 kSliceShift);
  }
};

/** A run of slices of one region. */
struct SliceRun {
  Region* region;
  unsigned first, count;
  bool dirty; /* some of it may hold other pages than zero pages */

  char* address() const noexcept { return region->slice_address(first); }
  uint64_t mask() const noexcept;
};

namespace regions {

/**
 * Takes a run of slices that begins at a multiple of `alignment` (a power of two up to kRegionBytes). Maps a piece of
 * the first region or a new chunk when there is none, unless `from_existing`. A run without a region: no memory.
 */
[[nodiscard]] SliceRun take_slices(unsigned count, size_t alignment,
                                   bool from_existing = false) noexcept;

/** Takes exactly this run if it is free. */
[[nodiscard]] bool take_run(Region& region, unsigned first, unsigned count) noexcept;

/** Gives slices back that the caller owns; their class bytes are kNoClass. */
void return_slices(Region& region, unsigned first, unsigned count) noexcept;

/** As return_slices(), for any set of them. */
void return_slice_mask(Region& region, uint64_t mask) noexcept;

/** One more than the highest id ever given. */
uint32_t count() noexcept;

/** Gives the chunks that are wholly free back to where they came from. Returns the bytes. */
size_t release_free_chunks() noexcept;

/** How many bytes the first chunks have that are whole, 4 to 64 MiB: less where address space is short. */
void set_first_chunk_bytes(size_t bytes) noexcept;

/** Bytes mapped as regions. */
size_t mapped_bytes() noexcept;

/** Bytes of the heap's own records. */
size_t record_bytes() noexcept;

/** In the child of fork: nobody else maps a chunk. Others may have been between a bit and the hints above it. */
void reset_after_fork(bool had_others) noexcept;

}  // namespace regions
}  // namespace memlimit::heap
