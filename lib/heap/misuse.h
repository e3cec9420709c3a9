/* What becomes of a program that frees what it must not: one line, and the end. As in glibc, but earlier or later: a
 * block freed twice is found when the second one leaves the thread's stack.
 */
#pragma once

#include <cstddef>

#include "heap/page_source.h"

namespace memlimit::heap {

/** Says it on standard error, and aborts. block_bytes: 0 where it is not known. */
[[noreturn]] void report_misuse(Misuse what, const void* address, size_t block_bytes) noexcept;

}  // namespace memlimit::heap
