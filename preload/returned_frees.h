/* Blocks that ASYNC hooks free, freed by the threads that own them.
 *
 * Hooks run on the service thread, and nearly all that they free is from the heaps of other threads. mimalloc hands
 * such a block over by a list through the blocks themselves: the owner walks it, one cache miss a block, before it
 * can use them, and a thread that fills a cache waits for one at every malloc. Here the service thread leaves the
 * addresses in a box of the owner's, eight to a line, and the owner frees them when it next looks up from its work
 * (each quantum), with the lines asked for ahead. Measured, a cache at its limit filled by one thread: 0.92 of the
 * throughput of one with a hand-set size, 0.84 without (medians of 10), and a third less time in the hook.
 *
 * Counted as freed when it is left in the box. An owner that does not come is not waited for: what lies in its box
 * since the last pass is freed by the service thread at the end of the next, or at a purge.
 * Taking is safe for any thread, for it ends in an ordinary free(): that the owner does it is for speed alone.
 * Threads: as said for each function. No locks; allocates nothing by malloc, maps 64 KiB for each box, for ever.
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace memlimit::returned_frees {

/** Leaves a block of that size for its owner; it must be counted as freed. False: the caller frees it (its own, too
 *  large, the owner unknown, its box full). On the service thread only. */
bool give(void* block, size_t block_bytes) noexcept;

/** Frees what was left for the calling thread, up to so many blocks. A few loads when there is nothing. Any thread;
 *  in a signal handler as far as free() is. */
inline constexpr uint32_t kEverything = UINT32_MAX;
void take(uint32_t most_blocks) noexcept;

/** For take() in malloc: it then takes some 10 microseconds at most. A quantum's worth of blocks is a hundred. */
inline constexpr uint32_t kTakenAtOnce = 256;

/** Frees what was left for owners who took nothing since the last call. On the service thread only. */
void take_stale() noexcept;

/** Frees all that was left for anybody. Any thread. */
void take_all() noexcept;

/** From now on nothing is left for anybody: the program uses the allocator by itself, and may destroy a heap with
 *  blocks that it had freed before. */
void turn_off() noexcept;

/** In the child of fork: threads that were taking are not here. One block each may be lost, as in any free that
 *  a fork interrupts. */
void reset_after_fork() noexcept;

}  // namespace memlimit::returned_frees
