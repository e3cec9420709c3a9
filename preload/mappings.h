/* What is known about memory mappings; see mappings.cc. */
#pragma once

#include <atomic>
#include <cstdint>

#include "address_range.h"

namespace memlimit::mappings {

/** Where the allocator's code lies: calls from there are its own. Once, from the constructor; what the
 *  program maps is counted from here on. */
void set_allocator_code(AddressRange code) noexcept;

/** Calls of madvise by the allocator: pages given back or announced as idle. */
int64_t madvise_calls() noexcept;

/** Bytes in private anonymous memory that the program mapped itself and may write to (or could). */
int64_t mapped_bytes() noexcept;

}  // namespace memlimit::mappings
