/* What memlimit knows about a thread: whether it is inside memlimit right now, and who it is.
 *
 * Threads: each its own. No destructor, so that frees after thread exit still find it.
 */
#pragma once

#include <cstdint>

#include "system/attributes.h"

namespace memlimit {

struct ThreadState {
  int guard_depth; /* > 0: inside memlimit; allocations are counted but start nothing */
  bool is_service;
  uint64_t assisted_step; /* the last step this thread waited for: never twice for one */
};

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
