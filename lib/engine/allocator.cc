/* See allocator.h. */
#include "engine/allocator.h"

namespace memlimit {
namespace {

constinit AllocatorOps table{
    .totals = []() noexcept { return AllocatorTotals{}; },
    .held = []() noexcept { return AllocatorHeld{}; },
    .rows = [](const HeapVisitor&) noexcept {},
    .own_net_freed = []() noexcept { return int64_t{0}; },
    .thread_count = []() noexcept { return 0; },
    .publish_own = [](bool) noexcept {},
    .set_quantum_bytes = [](int64_t) noexcept {},
    .set_cache_bytes = [](int64_t) noexcept {},
    .set_sample_interval_bytes = [](int64_t) noexcept {},
    .look_at_next_allocation = []() noexcept {},
    .purge =
        [](unsigned, int64_t, uint32_t*) noexcept {
          return Purged{0, true};
        },
    .madvise_calls = []() noexcept { return int64_t{0}; },
    .mapped_bytes = []() noexcept { return int64_t{0}; },
};

}  // namespace

void set_allocator(const AllocatorOps& ops) noexcept { table = ops; }

const AllocatorOps& allocator() noexcept { return table; }

}  // namespace memlimit
