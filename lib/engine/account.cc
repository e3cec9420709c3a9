/* See account.h. */
#include "engine/account.h"

#include <algorithm>
#include <atomic>

#include "engine/allocator.h"
#include "engine/thread_state.h"
#include "pacing/pacer.h"
#include "system/attributes.h"

namespace memlimit {

MEMLIMIT_TLS ThreadState this_thread{};

namespace account {
namespace {

/* The published sums share a line: they are written together, once a quantum or charge. */
struct alignas(128) Published {
  std::atomic<int64_t> taken{0}; /* with what was charged */
  std::atomic<int64_t> returned{0};
  std::atomic<int64_t> kept{0}; /* by threads, of what they took */
  std::atomic<int64_t> heap_peak{0};
  std::atomic<uint64_t> publishes{0};
  std::atomic<int64_t> charged_in{0}; /* by hand */
  std::atomic<int64_t> charged_out{0};
};
/* First of the section, whose page it begins. */
alignas(4096) constinit MEMLIMIT_FORK_DATA Published published{};

constinit std::atomic<int64_t> quantum{kQuantumMaxBytes};

void raise_peak(int64_t heap_bytes) noexcept {
  int64_t peak = published.heap_peak.load(std::memory_order_relaxed);
  while (heap_bytes > peak &&
         !published.heap_peak.compare_exchange_weak(peak, heap_bytes, std::memory_order_relaxed)) {
  }
}

int64_t charged_now() noexcept {
  const int64_t out = published.charged_out.load(std::memory_order_acquire);
  return published.charged_in.load(std::memory_order_acquire) - out;
}

/* Adds, and returns the sum; zero is no write. */
int64_t add(std::atomic<int64_t>& sum, int64_t bytes) noexcept {
  // Acquire and release: one sum is not read before another that is written or read first here. What was taken meanwhile
  // and is not in the first, less what was returned of it and is in the second, would be a peak that never was.
  if (bytes == 0) return sum.load(std::memory_order_acquire);
  return sum.fetch_add(bytes, std::memory_order_acq_rel) + bytes;
}

}  // namespace

void publish(uint64_t taken_bytes, uint64_t returned_bytes, int64_t kept_bytes) noexcept {
  const int64_t taken = add(published.taken, static_cast<int64_t>(taken_bytes));
  const int64_t returned = add(published.returned, static_cast<int64_t>(returned_bytes));
  const int64_t kept = add(published.kept, kept_bytes);
  published.publishes.fetch_add(1, std::memory_order_relaxed);
  raise_peak(taken - returned - kept - charged_now());
}

void charge(int64_t bytes) noexcept {
  // In both orders the heap (usage less charges) reads too low for a moment, never too high: a peak that
  // never was would stay in the statistics for ever.
  if (bytes >= 0) {
    published.charged_in.fetch_add(bytes, std::memory_order_release);
    add(published.taken, bytes);
  } else {
    // Negated as unsigned: -INT64_MIN does not exist as a signed number.
    const auto off = static_cast<int64_t>(-static_cast<uint64_t>(bytes));
    add(published.returned, off);
    published.charged_out.fetch_add(off, std::memory_order_release);
  }
  allocator().publish_own(false);
}

Totals totals() noexcept {
  Totals sum{};
  sum.charged_out_bytes = published.charged_out.load(std::memory_order_acquire);
  const AllocatorTotals blocks = allocator().totals();
  sum.charged_in_bytes = published.charged_in.load(std::memory_order_acquire);
  sum.allocated_bytes = blocks.allocated + sum.charged_in_bytes;
  sum.freed_bytes = blocks.allocated - blocks.live + sum.charged_out_bytes;
  sum.charged_bytes = sum.charged_in_bytes - sum.charged_out_bytes;
  return sum;
}

MEMLIMIT_CHILD_SHARED_CODE int64_t published_usage_bytes() noexcept {
  // Acquire: what is seen as returned was taken before, so that the difference is not negative.
  const int64_t returned = published.returned.load(std::memory_order_acquire);
  return published.taken.load(std::memory_order_relaxed) - returned;
}

int64_t published_allocated_bytes() noexcept {
  return published.taken.load(std::memory_order_relaxed);
}

int64_t published_freed_bytes() noexcept {
  return published.returned.load(std::memory_order_relaxed);
}

int64_t heap_peak_bytes() noexcept { return published.heap_peak.load(std::memory_order_relaxed); }
void note_peak(int64_t heap_bytes) noexcept { raise_peak(heap_bytes); }

void set_quantum_bytes(int64_t bytes) noexcept {
  bytes = std::max<int64_t>(bytes, 1);
  if (quantum.load(std::memory_order_relaxed) == bytes) return;
  quantum.store(bytes, std::memory_order_relaxed);
  allocator().set_quantum_bytes(bytes);
}
int64_t quantum_bytes() noexcept { return quantum.load(std::memory_order_relaxed); }

uint64_t publish_count() noexcept { return published.publishes.load(std::memory_order_relaxed); }

namespace {

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  published.heap_peak.store(published.taken.load(std::memory_order_relaxed) -
                                published.returned.load(std::memory_order_relaxed) -
                                published.kept.load(std::memory_order_relaxed) - charged_now(),
                            std::memory_order_relaxed);
  published.publishes.store(0, std::memory_order_relaxed);
}

}  // namespace

void count_anew() noexcept {
  const AllocatorTotals blocks = allocator().totals();
  published.taken.store(blocks.taken + published.charged_in.load(std::memory_order_relaxed),
                        std::memory_order_relaxed);
  published.returned.store(blocks.returned + published.charged_out.load(std::memory_order_relaxed),
                           std::memory_order_relaxed);
  published.kept.store(blocks.taken - blocks.returned - blocks.live, std::memory_order_relaxed);
}

constinit const fork::Part kForkPart{.name = "account", .reset = reset_after_fork};

}  // namespace account
}  // namespace memlimit
