/* Counting: exact per-thread counters, and the published totals that decisions are made on.
 *
 * Answers for: how many bytes are live. The fast path (count_allocated, count_freed) takes from the
 * thread's own allowance: no shared write. The slow path publishes what the thread has not told yet, so
 * the published usage is never further from the truth than the sum of all quanta (pacer.h's quantum_for
 * keeps that within max(1 % of the limit, 1 MiB, 4 KiB a thread)).
 * Refuses: to decide anything. Threads: all of them.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/fork.h"
#include "engine/thread_state.h"
#include "system/attributes.h"

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

/* Subtracts and tells whether the rest is negative. One instruction on x86-64: it needs no lock prefix,
 * since only the owner writes, and a signal handler that allocates finds it done or not begun. A thread
 * that reads it meanwhile sees the value before or after (8 aligned bytes). */
MEMLIMIT_ALWAYS_INLINE bool take(std::atomic<int64_t>& rest, uint64_t bytes) noexcept {
#if defined(__x86_64__) && !MEMLIMIT_THREAD_SANITIZER
  bool negative;
  __asm__ volatile("subq %[bytes], %[rest]"
                   : [rest] "+m"(rest), "=@ccs"(negative)
                   : [bytes] "er"(bytes));
  return negative;
#else
  // A release: totals() reads frees before allocations, and a free it sees must come with the
  // allocation it belongs to. (On x86-64 every store is one.)
  const int64_t left = rest.load(std::memory_order_relaxed) - static_cast<int64_t>(bytes);
  rest.store(left, std::memory_order_release);
  return left < 0;
#endif
}

/** Counts. True when the thread must look up: the caller goes on with publish_allocated(). */
[[nodiscard]] MEMLIMIT_ALWAYS_INLINE bool count_allocated(uint64_t bytes) noexcept {
  return take(this_thread.node->allocatable, bytes);
}

/** Counts. True when the thread must look up: the caller goes on with publish_freed(). */
[[nodiscard]] MEMLIMIT_ALWAYS_INLINE bool count_freed(uint64_t bytes) noexcept {
  return take(this_thread.node->freeable, bytes);
}

/**
 * The slow path's first half, after count_allocated() or count_freed() returned true for these bytes:
 * publishes and gives the thread a new allowance. Registers a fresh thread (whose bytes were not counted
 * yet, for want of a node). Never allocates, except that a fresh thread may map a chunk of nodes.
 */
void publish_allocated(uint64_t bytes) noexcept;
void publish_freed(uint64_t bytes) noexcept;

/** What count_freed() is told by a caller that does not know the number yet: it returns true, and the caller
 *  goes on with recount_freed(). Readers do not see these bytes. Every other number is below kMostBytes. */
inline constexpr uint64_t kUnknownBytes = uint64_t{1} << 31;
inline constexpr uint64_t kMostBytes = kUnknownBytes / 2;

/** Puts right a count_freed() of kUnknownBytes: it should have been `bytes`.
 *  True when the thread must still look up: the caller goes on with publish_freed(bytes). */
[[nodiscard]] bool recount_freed(uint64_t bytes) noexcept;

/** Whether the thread need not look up: what the last count_allocated() returned, negated. */
MEMLIMIT_ALWAYS_INLINE bool allowance_left() noexcept {
  return this_thread.node->allocatable.load(std::memory_order_relaxed) >= 0;
}

/** The thread's next count_allocated() returns true, however small. For who finds that a look is due where
 *  it cannot be taken: in any context, a signal handler too. On other processors than x86-64 it does
 *  nothing, and the thread looks up when its allowance is used up. */
void look_at_next_allocation() noexcept;

/** Takes back a count_allocated(), whatever it returned: the block could not be had. */
void uncount_allocated(uint64_t bytes) noexcept;

/** On: from now on every count_freed() of this thread returns true, so that its caller can decide what becomes of
 *  each block, and publish_freed() need follow only when publish_is_due(). Off: as usual. Publishes. */
void look_at_every_free(bool on) noexcept;

/** The same of count_allocated() and publish_allocated(), from the thread's next publish on. Without counters of
 *  its own (its destructors have run) a thread looks at each of them anyway, and this does nothing. */
void look_at_every_allocation(bool on) noexcept;

/** For a thread that looks at each: whether it has counted a quantum since it published. */
bool publish_is_due() noexcept;

/** Publishes without having counted anything; registers a fresh thread. */
void publish() noexcept;

/** What the calling thread has freed less what it has allocated, ever; 0 for one without a node. */
int64_t own_net_freed() noexcept;

/** The calling thread's id, without a system call once it has allocated. */
int own_tid() noexcept;

/** Counts memory charged by hand, and publishes. */
void charge(int64_t bytes) noexcept;

Totals totals() noexcept;

/** Published sums: one or two atomic loads, off by the unpublished bytes. */
int64_t published_usage_bytes() noexcept;
int64_t published_allocated_bytes() noexcept;
int64_t published_freed_bytes() noexcept;

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

/** Visits the nodes that have an owner. For statistics. */
void for_each_live_node(void (*visit)(const ThreadNode&, void*), void* arg) noexcept;

/** In the child of fork: the other threads' nodes become free, their counts stay. */
extern const fork::Part kForkPart;

}  // namespace memlimit::account
