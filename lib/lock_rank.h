/* Every lock memlimit has, and the order in which they may be taken: a thread that holds one may only
 * take one of a higher rank. Checked in debug builds by lock.h; fork.cc takes them in this order.
 *
 * Not here: the allocator's own locks, which are below all of these (an entry point calls the allocator
 * with none of ours held).
 */
#pragma once

namespace memlimit {

enum class LockRank : int {
  kService = 1, /* starting and stopping the service thread */
  kReclaim = 2, /* pacer and limiter state; held for a decision, never while a hook runs */
  kHooks = 3,   /* the registry's slots; never while a hook runs */
  kAdapters = 4, /* discovery of runtimes */
  kGroup = 5,    /* the memory group's paths; never while anything else of ours runs */
};

}  // namespace memlimit
