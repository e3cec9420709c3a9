/* The ledger: how many bytes are held, as threads tell when they look up from their work, and by charges.
 *
 * Three figures, never mixed. Usage is live blocks and charges; the allocator knows it exactly (totals()). Published is
 * what the threads have told, two atomic loads, and what decisions are taken on: usage and what the threads keep for
 * their next allocations, off by less than a quantum a thread (pacer.h's quantum_for keeps their sum within
 * max(1 % of the limit, 1 MiB, 4 KiB a thread)). The peak is the highest usage that was ever told or read.
 *
 * Refuses: to count on the fast path (the allocator's), to decide anything. Threads: all, in any context, without locks.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"

namespace memlimit::account {

/** Exact when no thread is at work; bytes. */
struct Totals {
  int64_t allocated_bytes; /* blocks and charges, since the process began */
  int64_t freed_bytes;
  int64_t charged_bytes;     /* charged by hand and not taken off again */
  int64_t charged_in_bytes;  /* ever charged: part of allocated_bytes */
  int64_t charged_out_bytes; /* ever taken off: part of freed_bytes */

  int64_t usage_bytes() const noexcept { return allocated_bytes - freed_bytes; }
  int64_t heap_bytes() const noexcept { return usage_bytes() - charged_bytes; }
};

/** A thread tells: it has taken and returned so many bytes since it last did, and keeps so many more of them for its
 *  next allocations. */
void publish(uint64_t taken_bytes, uint64_t returned_bytes, int64_t kept_bytes) noexcept;

/** Counts memory charged by hand, and publishes; negative: takes it off. */
void charge(int64_t bytes) noexcept;

Totals totals() noexcept;

/** What is published: held now, and taken and returned since the process began. */
int64_t published_usage_bytes() noexcept;
int64_t published_allocated_bytes() noexcept;
int64_t published_freed_bytes() noexcept;

/** Highest heap (without charges) ever told or read; never below a heap_bytes() already noted. */
int64_t heap_peak_bytes() noexcept;
void note_peak(int64_t heap_bytes) noexcept;

/** Sets how many bytes a thread may take or return before it looks up; takes effect at each thread's next look. */
void set_quantum_bytes(int64_t bytes) noexcept;
int64_t quantum_bytes() noexcept;

/** How often a thread has told since the process began. */
uint64_t publish_count() noexcept;

/** In the child of a process with more threads, once the allocator has given up what those kept: what is published begins
 *  with what is held. */
void count_anew() noexcept;

/** In the child of fork: the peak begins with what is published. */
extern const fork::Part kForkPart;

}  // namespace memlimit::account
