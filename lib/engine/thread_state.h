/* What memlimit knows about a thread: its counters, and whether it is inside memlimit right now.
 *
 * The counters live in nodes outside the thread's own storage, are never freed, and only ever grow: a
 * node given to a new thread goes on counting from where the last owner stopped. So whoever wants the
 * exact totals walks all nodes ever made, without a lock, and neither a thread that vanishes without
 * its destructors (raw exit, _Fork) nor the child of a fork can leave a dangling pointer behind.
 *
 * Threads: a node has one writer, its owner; everybody reads.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "system/attributes.h"

namespace memlimit {

/** One thread's counters. Two cache lines, so that neighbours never share one (nor a prefetched pair).
 *
 * The fast path subtracts from what the thread may still allocate (or free) before it must look up, and
 * a negative rest sends it to the slow path: one instruction that counts and compares. What it has
 * allocated so far is allocated_end - allocatable. */
struct alignas(128) ThreadNode {
  std::atomic<int64_t> allocatable{0};
  std::atomic<int64_t> freeable{0};

  /* Written by the owner's slow path together with the two above, between two steps of `sequence`: odd
   * while they do not fit together. */
  std::atomic<uint32_t> sequence{0};
  std::atomic<int32_t> owner_tid{0}; /* 0: nobody's */
  std::atomic<uint64_t> allocated_end{0};
  std::atomic<uint64_t> freed_end{0};

  /* The owner's slow path only. */
  uint64_t published_allocated = 0;
  uint64_t published_freed = 0;
  uint32_t purge_epoch_seen = 0;

  uint32_t index = 0;
  std::atomic<uint32_t> next_free{0};
};
static_assert(sizeof(ThreadNode) == 128, "one node, one pair of cache lines");

enum class ThreadPhase : uint8_t {
  kFresh,    /* has not allocated yet: points at the sentinel */
  kLive,     /* owns a node */
  kTornDown, /* its destructors have run (or no node could be had): counts straight to the totals */
};

/** Thread-local; no destructor, so that frees after thread exit still find it. */
struct ThreadState {
  ThreadNode* node;
  int guard_depth; /* > 0: inside memlimit; allocations are counted but start nothing */
  ThreadPhase phase;
  bool exit_armed; /* the key's destructor will run for this thread */
  bool is_service;
  bool looks_at_every_free;       /* count_freed() always returns true */
  bool looks_at_every_allocation; /* the same of count_allocated() */
  uint64_t assisted_step;         /* the last step this thread waited for: never twice for one */
};

/** Owned by no thread: its rests are negative, and whatever is subtracted from them means nothing, so
 *  the first operation of a thread takes the slow path, and every one after its destructors. */
extern constinit ThreadNode unowned_node;

extern MEMLIMIT_TLS ThreadState this_thread;

/** Marks this thread as inside memlimit for a scope; nests, and restores rather than clears. */
class ReentryGuard {
 public:
  ReentryGuard() noexcept { ++this_thread.guard_depth; }
  ~ReentryGuard() { --this_thread.guard_depth; }
  ReentryGuard(const ReentryGuard&) = delete;
  ReentryGuard& operator=(const ReentryGuard&) = delete;

  static bool inside() noexcept { return this_thread.guard_depth > 0; }
};

}  // namespace memlimit
