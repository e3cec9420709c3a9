/* Blocks that ASYNC hooks free, kept for the threads that allocate next.
 *
 * Hooks run on the service thread, and what they free is from the heaps of other threads. Given back there, it serves
 * only the thread whose heap it is: another that runs meanwhile takes fresh pages, and when the time slices change the
 * idle pages of the one go to the kernel and come back zeroed for the other, hundreds of megabytes a second. Here a
 * block goes from the hook to whoever asks for one of its size, in the order in which they were freed. The allocator
 * never learns of it: to mimalloc a kept block is one in use.
 *
 * In that order, because a cache evicts what it filled first: the blocks of a page are then freed at about the same time
 * and used at about the same time again, so that pages still fall idle as a whole once a cache shrinks.
 *
 * Kept is at most a share of the limit, while blocks are taken again, and where the paced number does not count them (not
 * in `rss`). Counted they are as what they are: freed by the hook, allocated by whoever takes them. Measured, a cache at
 * 256 MiB filled by four threads on two cores: 1.06 of the throughput of one with a hand-set size, 0.80 without
 * (medians of 5), a third of the engine's CPU time, and malloc's 99th percentile 2.4 instead of 9 microseconds.
 *
 * Threads: as said for each function. No locks. Nothing is allocated by malloc; up to 16 KiB are mapped for each size, for
 * ever. A fork in between loses the block that another thread was just taking, as any malloc does.
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace memlimit::recycled_blocks {

/** Keeps a block of that size, which must be counted as freed and lie at the beginning of a block of the allocator's.
 *  False: the caller frees it. On the service thread only. */
bool keep(void* block, size_t block_bytes) noexcept;

/** A kept block of that size, with what its last owner wrote; nullptr when there is none, or the calling thread's heap is
 *  known to have one. Any thread, any context. */
void* take(size_t block_bytes) noexcept;

/** Whether the calling thread is to ask at each of its next allocations (account::look_at_every_allocation): something
 *  is kept, and it allocates much more than it frees. To be asked once a quantum. */
bool worth_asking() noexcept;

/** The calling thread has collected its heap: counts the free blocks that lie between those in use, which it is to use
 *  before it takes any. Some 20 nanoseconds for each page of the heap; nothing while nothing is kept. */
void heap_was_collected() noexcept;

/** A pass of the ASYNC hooks is over. Frees what was kept for several passes without anybody taking any of it. On the
 *  service thread. */
void pass_ended() noexcept;

/** About how many bytes are kept now. Any thread, any context. */
int64_t kept_bytes() noexcept;

/** Frees all that is kept if idle pages are over the limit, else what nobody took any of since the last call. On the
 *  service thread. */
void free_unused() noexcept;

/** Frees all that is kept. Any thread outside of malloc and free. */
void free_all() noexcept;

/** From now on nothing is kept: the program uses the allocator by itself, and may destroy a heap with blocks that it had
 *  freed before. Any thread. */
void turn_off() noexcept;

}  // namespace memlimit::recycled_blocks
