/* An allocator for tests of the engine: it counts, publishes once a quantum and looks up, and has no memory.
 *
 * Threads: all; the table's figures are of the whole test process.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/account.h"
#include "engine/allocator.h"
#include "engine/look.h"

namespace memlimit::test::pretended {

struct Own {
  int64_t net_freed = 0;
  uint64_t taken = 0, returned = 0; /* not published yet */
};
inline thread_local Own own;
inline std::atomic<int64_t> allocated{0};
inline std::atomic<int64_t> freed{0};
inline std::atomic<int> threads{1};
inline std::atomic<int> purges{0};
inline std::atomic<int64_t> idle_bytes{0}; /* what a purge gives back */
inline std::atomic<int64_t> cache_bytes{0};
inline std::atomic<bool> look_asked{false};

inline void publish_own(bool) noexcept {
  account::publish(own.taken, own.returned, 0);
  own.taken = own.returned = 0;
}

inline constexpr AllocatorOps kOps{
    .totals =
        []() noexcept {
          return AllocatorTotals{allocated, allocated - freed, allocated, freed};
        },
    .held = []() noexcept { return AllocatorHeld{}; },
    .rows = [](const HeapVisitor&) noexcept {},
    .own_net_freed = []() noexcept { return own.net_freed; },
    .thread_count = []() noexcept { return threads.load(); },
    .publish_own = publish_own,
    .set_quantum_bytes = [](int64_t) noexcept {},
    .set_cache_bytes = [](int64_t bytes) noexcept { cache_bytes = bytes; },
    .set_sample_interval_bytes = [](int64_t) noexcept {},
    .look_at_next_allocation = []() noexcept { look_asked = true; },
    .purge =
        [](unsigned, int64_t, uint32_t*) noexcept {
          ++purges;
          return Purged{idle_bytes.exchange(0), true};
        },
    .madvise_calls = []() noexcept { return int64_t{0}; },
    .mapped_bytes = []() noexcept { return int64_t{0}; },
};

/** As in the allocator: counted at once, told once a quantum. */
inline void allocate(int64_t bytes) noexcept {
  allocated += bytes;
  own.net_freed -= bytes;
  own.taken += static_cast<uint64_t>(bytes);
  if (static_cast<int64_t>(own.taken) < account::quantum_bytes()) return;
  publish_own(false);
  look::after_allocation(bytes);
}

inline void release(int64_t bytes) noexcept {
  freed += bytes;
  own.net_freed += bytes;
  own.returned += static_cast<uint64_t>(bytes);
  if (static_cast<int64_t>(own.returned) < account::quantum_bytes()) return;
  publish_own(false);
  look::after_free();
}

}  // namespace memlimit::test::pretended
