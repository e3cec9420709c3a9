/* Every lock memlimit has, and the order in which they may be taken: a thread that holds one may only
 * take one of a higher rank. Checked in debug builds by lock.h; lib/start.cc has fork take them in this order.
 *
 * Not here: the allocator's own locks, which are below all of these (an entry point calls the allocator
 * with none of ours held).
 */
#pragma once

namespace memlimit {

enum class LockRank : int {
  kLimit = 1,     /* the setting in force; held while it is resolved and put in force */
  kService = 2,   /* starting and stopping the service thread */
  kReclaim = 3,   /* pacer and limiter state; held for a decision, never while a hook runs */
  kHooks = 4,     /* the registry's slots; never while a hook runs */
  kAdapters = 5,  /* discovery of runtimes */
  kGroup = 6,     /* the memory group's paths; never while anything else of ours runs */
  kFootprint = 7, /* the kept descriptor of statm; only a read of it runs under this */
  kSqlite = 8,    /* the open connections of SQLite; never while SQLite runs */
};

}  // namespace memlimit
