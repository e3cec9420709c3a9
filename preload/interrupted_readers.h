/* Readers that other threads were when this process was forked, taken off mimalloc's count of them.
 *
 * Up to 2.1.2 a thread that takes a segment of an exited thread counts itself among the readers of the list of those
 * (abandoned_readers in segment.c), and whoever gives a segment back to the kernel waits, spinning, until there are none.
 * In the child of a fork a reader that was another thread is gone and stays counted: the child waits for ever, in
 * mi_collect(), in free(), or when a thread ends. Measured, four threads that allocate, free and come and go while a fifth
 * forks, over the limit: one child in 2,000. What is not told from it: a signal handler that forks inside that very read, and
 * whose child returns to it.
 */
#pragma once

#include <cstdint>

#include "address_range.h"

namespace memlimit::interrupted_readers {

/** Returns the address of the one word in `data` that `code` counts threads in and waits for to be 0, or 0: none is, or more
 *  than one. Pure. `code` must be readable. */
uintptr_t find_counter(AddressRange code, AddressRange data) noexcept;

/** Where the allocator's code and its variables lie. Once, from the constructor. */
void set_allocator(AddressRange code, AddressRange data) noexcept;

/** Before fork, in a process that has other threads: finds the count, once. The child would do that anew each time, and have
 *  the allocator's code mapped for it. Any thread. */
void prepare_fork() noexcept;

/** Takes all other threads off the count. In the child of fork, while it has one thread. Neither allocates. */
void end_after_fork() noexcept;

}  // namespace memlimit::interrupted_readers
