/* The registry of reclaim hooks, and running them.
 *
 * Answers for: a fixed number of slots; calling a hook with no lock of ours held, never on two threads
 * at once; measuring what it really freed; removal that returns only when the hook is not running.
 * Refuses to decide when a round is due or how much is wanted (pacer.h), and in which order (ranking.h).
 * Threads: all; a hook may call anything here.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/fork.h"
#include "engine/hook_tally.h"
#include "memlimit.h"
#include "observe/stats.h"
#include "pacing/pacer.h"

namespace memlimit::hooks {

inline constexpr int kMaxHooks = 64;

/** What a round asks of the hooks of one context. */
struct Pass {
  uint64_t round = 0;
  int64_t wanted_bytes = 0;
  int64_t usage_bytes = 0;
  int64_t own_bytes = 0; /* what of it is this process's own */
  int64_t limit_bytes = 0;
  Level level = Level::kLow;
  int64_t budget_ns = 0;        /* for each hook: its deadline is this long after its call */
  bool everything = false;      /* an explicit reclaim: back-off does not apply */
  bool pacer_backs_off = false; /* nor does it here: rounds are far apart already */
  int64_t deepest_fall_bytes = INT64_MAX; /* of own_bytes, see pacer.h */
  /* How many of the wanted bytes are still worth freeing once `freed` are; nullptr: wanted - freed. */
  int64_t (*still_wanted)(const Pass& pass, int64_t freed_bytes) = nullptr;
};

struct Outcome {
  int calls = 0;
  int skips = 0; /* hooks that answered "cannot now" */
  int busy = 0;  /* hooks passed over, since they run elsewhere */
  int64_t freed_bytes = 0;
  bool forked = false; /* a hook forked and this is the child: the caller must wind down */

  /** False when hooks were called and all said "cannot now". */
  bool answered() const noexcept { return calls == 0 || skips < calls; }
};

/** As memlimit_hook_add() and memlimit_hook_remove() promise. */
int add(const memlimit_hook& hook, memlimit_hook_id* id) noexcept;
int remove(memlimit_hook_id id) noexcept;

/** Has exit() call end() before it destroys any object that exists by now. Once; on the service thread, before its
 *  first hook: a plugin's may work on objects that were made after the plugin was loaded. May allocate. */
void end_before_what_exists() noexcept;

/** exit() has begun, and what hooks work on is about to be destroyed: waits for those that run on other threads, a
 *  second at most, and lets none begin. add() arranges for it. */
void end() noexcept;

/** How many hooks of the context are registered; one atomic load. */
int count(int context) noexcept;

/** Whether any are, of whatever context. A few atomic loads. */
inline bool any() noexcept {
  return count(MEMLIMIT_INLINE) + count(MEMLIMIT_ASYNC) + count(MEMLIMIT_POLL) > 0;
}

/** Runs the due hooks of a context, best first, until enough is freed. Sets the reentrancy guard around
 *  each. Calls of one context may overlap (INLINE); a hook that is running elsewhere is passed over, and
 *  so are all of them where the service thread's stack is too small (service.h). */
Outcome run(int context, const Pass& pass) noexcept;

/** A hook that is running beyond its deadline. */
struct Overrun {
  int slot;
  int context;
  uint64_t round;
  int64_t ran_ns;
};

/** Fills it, once for each such call; false: there is none that was not told. One that nobody notices while it runs is told
 *  when it returns. Never waits. */
bool take_overrun(int64_t now_ns, Overrun* overrun) noexcept;

/** When take_overrun() finds one at the earliest; INT64_MAX: no hook runs. Never waits. */
int64_t overrun_due_ns() noexcept;

/** The name in a slot, copied ("" when free); false when the table is busy. */
bool name_of(int slot, char* out, size_t cap) noexcept;

/** Fills rows for the statistics; returns how many. */
size_t rows(HookRow* out, size_t cap) noexcept;

/** Over all hooks, removed ones included. */
Sums sums() noexcept;

/** Hooks stay registered in the child; those that were running in another thread are not running here. */
extern const fork::Part kForkPart;

}  // namespace memlimit::hooks
