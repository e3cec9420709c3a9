/* The heap's figures as jemalloc has them: sums, which are of the moment, and those of an arena and its bins, which are as
 * old as the last epoch, so that a program that asks for sixty bins in a row pays for one walk over the heap.
 *
 * There is one arena, 0. A program may create others: they are empty, since all blocks lie in the first.
 * Threads: any; no lock, no allocation.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "figures.h"

namespace memlimit::jemalloc {

/** jemalloc's words for what is held: `active` are pages of spans and blocks, `resident` those and what is free, dirty or
 *  a record, at most; `mapped` is whole extents, and `retained` is address space without pages. */
size_t active_bytes(const HeapReport& now) noexcept;
size_t resident_bytes(const HeapReport& now) noexcept;
size_t mapped_bytes(const HeapReport& now) noexcept;

/** Of an arena. */
struct ArenaReport {
  HeapReport sums;
  HeapClasses classes; /* by class: a bin is the class before */
  uint64_t threads;
  uint64_t purges, purged_bytes;
};

/** From now on the figures of arenas are new ones. Returns the epoch, 1 at first. */
uint64_t begin_epoch() noexcept;
uint64_t current_epoch() noexcept;

namespace arenas {

inline constexpr size_t kAll = 4096; /* MALLCTL_ARENAS_ALL */

/** How many there are: those that were created, and the first. */
unsigned count() noexcept;

/** The index of a new one; 0 when there are too many. */
unsigned create() noexcept;

/** Whether there is one. kAll, and the number of arenas, stand for all of them. */
bool exist(size_t index) noexcept;

/** Of one that exists. */
ArenaReport report(size_t index) noexcept;

}  // namespace arenas
}  // namespace memlimit::jemalloc
