/* What moves blocks between a thread's stacks and the spans: refill and flush; and single blocks for who has no stack.
 *
 * Threads: each for its own cache, which it holds (CacheHold). No locks.
 */
#pragma once

#include <cstddef>

#include "heap/thread_cache.h"

namespace memlimit::heap::transfer {

/** Takes one block, and fills about half of the stack: the other half is room for what is freed next. nullptr: no
 *  memory. */
[[nodiscard]] void* refill(ThreadCache& cache, unsigned class_index) noexcept;

/** Pushes one block. A stack that is full grows, or gives its oldest half back: the newest are in the processor's
 *  cache, and are the next to be popped. */
void push(ThreadCache& cache, unsigned class_index, void* block) noexcept;

/** The stacks hold at most so much together from now on. What they hold is given back when that is less than before. */
void set_bound(ThreadCache& cache, uint32_t bytes) noexcept;

/** Gives everything back, leases too. */
void flush_all(ThreadCache& cache) noexcept;

/** Ends the lease that the class has in a cache. */
void give_up_lease(ThreadCache& cache, unsigned class_index) noexcept;

/** One block from a span and back, for a thread without a cache. */
[[nodiscard]] void* take_one(unsigned class_index) noexcept;
void return_one(unsigned class_index, void* block) noexcept;

}  // namespace memlimit::heap::transfer
