/* What becomes of a program that frees what it must not: one line, and the end. As in glibc, but earlier or later: a
 * block freed twice in a row is found at once, and with others freed in between when the second one leaves the thread's
 * stack for its span, or when the program ends with both in it. Nothing on the fast path could tell it sooner: its one
 * compare is with the newest block of the stack, a word in the block itself would have to be written at each free and
 * taken back at each allocation, and a bit for each block is what the stack saves an atomic instruction on.
 */
#pragma once

#include <cstddef>

#include "heap/page_source.h"
#include "heap/thread_cache.h"

namespace memlimit::heap {

/** Says it on standard error, and aborts. block_bytes: 0 where it is not known. */
[[noreturn]] void report_misuse(Misuse what, const void* address, size_t block_bytes) noexcept;

/** Reports a block that lies twice among the newest of a stack. Reads the cache alone, which is the calling thread's and held.
 *  Some ten instructions for each block that is looked at. */
void report_stacked_twice(ThreadCache& cache) noexcept;

}  // namespace memlimit::heap
