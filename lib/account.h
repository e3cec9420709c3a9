/* Counting: exact per-thread counters, and the published totals that decisions are made on.
 *
 * Answers for: how many bytes are live. The fast path (count_allocated, count_freed) adds to the
 * thread's own node and compares with its mark: no shared write. The slow path publishes what the
 * thread has not told yet, so the published usage is never further from the truth than the sum of all
 * quanta (pacer.h's quantum_for keeps that within max(1 % of the limit, 1 MiB, 4 KiB a thread)).
 * Refuses: to decide anything. Threads: all of them.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "attributes.h"
#include "thread_state.h"

namespace memlimit::account {

/** Exact sums over all nodes ever made. Lock-free; any thread, any context. */
struct Totals {
  int64_t allocated_bytes; /* blocks and charges, since the process began */
  int64_t freed_bytes;
  int64_t charged_bytes;     /* charged by hand and not taken off again */
  int64_t charged_in_bytes;  /* ever charged: part of allocated_bytes */
  int64_t charged_out_bytes; /* ever taken off: part of freed_bytes */

  int64_t usage_bytes() const noexcept { return allocated_bytes - freed_bytes; }
  int64_t heap_bytes() const noexcept { return usage_bytes() - charged_bytes; }
};

/** True when the counter reached its mark and was NOT advanced: the caller takes the slow path. */
[[nodiscard]] MEMLIMIT_ALWAYS_INLINE bool count_allocated(uint64_t bytes) noexcept {
  ThreadNode* const node = this_thread.node;
  const uint64_t sum = node->allocated.load(std::memory_order_relaxed) + bytes;
  if (MEMLIMIT_UNLIKELY(sum >= node->allocated_mark.load(std::memory_order_relaxed))) return true;
  node->allocated.store(sum, std::memory_order_relaxed);
  return false;
}

/** As count_allocated(). The store is a release: totals() reads it before the allocations of others, and
 *  a free it sees must come with the allocation it belongs to, or usage would dip below zero. */
[[nodiscard]] MEMLIMIT_ALWAYS_INLINE bool count_freed(uint64_t bytes) noexcept {
  ThreadNode* const node = this_thread.node;
  const uint64_t sum = node->freed.load(std::memory_order_relaxed) + bytes;
  if (MEMLIMIT_UNLIKELY(sum >= node->freed_mark.load(std::memory_order_relaxed))) return true;
  node->freed.store(sum, std::memory_order_release);
  return false;
}

/**
 * The slow path's first half: counts the bytes, publishes, sets new marks. Registers a fresh thread.
 * Never allocates, except that a fresh thread may map a chunk of nodes.
 */
void publish(uint64_t allocated_bytes, uint64_t freed_bytes) noexcept;

/** Counts memory charged by hand; the caller goes on as after publish(). */
void charge(int64_t bytes) noexcept;

Totals totals() noexcept;

/** Published sums: one or two atomic loads, off by the unpublished bytes. */
int64_t published_usage_bytes() noexcept;
int64_t published_allocated_bytes() noexcept;

/** Highest heap (without charges) ever published or read; never below a heap_bytes() already returned. */
int64_t heap_peak_bytes() noexcept;
void note_peak(int64_t heap_bytes) noexcept;

/** Sets how many bytes a thread may count before it publishes; takes effect at each thread's next look. */
void set_quantum_bytes(int64_t bytes) noexcept;
int64_t quantum_bytes() noexcept;

/** Threads that own a node now (threads that allocated and have not exited). */
int thread_count() noexcept;

/** Slow paths taken to publish since the process began. */
uint64_t publish_count() noexcept;

/** Called when the thread's destructors run: gives the node back; later operations count directly. */
void thread_exit() noexcept;

/** How a thread arranges for thread_exit() to be called; set once by the preload layer. */
void set_thread_exit_arm(bool (*arm)() noexcept) noexcept;

/** Calls every other thread to its slow path at its next operation. */
void kick_all_threads() noexcept;

/** Visits the nodes that have an owner. For statistics. */
void for_each_live_node(void (*visit)(const ThreadNode&, void*), void* arg) noexcept;

/** In the child of fork: the other threads' nodes become free, their counts stay. */
void reset_after_fork() noexcept;

}  // namespace memlimit::account
