/* See allocator.h. */
#include "engine/allocator.h"

namespace memlimit {
namespace {

constinit AllocatorOps table{[]() noexcept {},
                             [](Level) noexcept {},
                             []() noexcept -> int64_t { return 0; },
                             []() noexcept {},
                             []() noexcept -> int64_t { return 0; },
                             []() noexcept {},
                             []() noexcept -> int64_t { return 0; }};

}  // namespace

void set_allocator(const AllocatorOps& ops) noexcept { table = ops; }

const AllocatorOps& allocator() noexcept { return table; }

}  // namespace memlimit
