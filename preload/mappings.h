/* What is known about memory mappings; see mappings.cc. */
#pragma once

#include <atomic>
#include <cstdint>

namespace memlimit::mappings {

struct Counters {
  std::atomic<int64_t> madvise_calls{
      0}; /* by the allocator: pages given back or announced as idle */
};

/** Where the allocator's code lies: calls from there are its own. Once, from the constructor. */
void set_allocator_code(const void* begin, const void* end) noexcept;

const Counters& counters() noexcept;

}  // namespace memlimit::mappings
