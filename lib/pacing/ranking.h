/* Ranking of hooks: who is asked first, and who is left alone for a while.
 *
 * Answers for: measured bytes a microsecond with decay, the order of a round, and each hook's own
 * back-off when it frees nothing. Refuses: clocks, atomics, locks, I/O, allocation; it never calls
 * a hook. Threads: any, one at a time for one set of figures; the caller has the lock.
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace memlimit {

/** Each run counts for 1/8 of a hook's figures: what it did some twenty runs ago is forgotten. */
inline constexpr double kRankingDecay = 1.0 / 8;

/** A hook that frees nothing is asked every 2nd, 4th, ... round, at most this rarely: one round for
 * each 100 us that a call costs, so that a cheap hook that becomes useful again is found soon.
 * (Fruitless rounds are themselves up to a sixteenth of the limit of allocation apart, see
 * pacer.h.) */
inline constexpr uint32_t kHookIntervalMinCap = 4;
inline constexpr uint32_t kHookIntervalMaxCap = 64;
inline constexpr double kHookIntervalUsPerRound = 100.0;

/** Freeing less than this, and less than 1/256 of what was wanted, is freeing nothing: other
 * threads blur a measurement by that much. One page. */
inline constexpr int64_t kHookNegligibleBytes = 4096;
inline constexpr int64_t kHookNegligibleDivisor = 256;

/** One round in this many begins with the hook that has waited longest, whatever its rank: rounds
 * stop when enough is free, and those behind would never be seen again. */
inline constexpr uint64_t kExploreEveryRounds = 16;

/** A hook past its deadline counts as having taken this many times as long. */
inline constexpr double kLatePenalty = 4.0;

/** A hook that never ran goes first, unless it has answered "cannot now" this often. */
inline constexpr int64_t kNewHookSkips = 16;

/** The most hooks one order() can hold: 64 of the program's and 16 of ours. */
inline constexpr size_t kRankingMaxHooks = 80;

/** Plain data; value-initialise when the hook is registered. */
struct HookFigures {
  double bytes = 0.0; /* decayed sums over its runs */
  double microseconds = 0.0;
  uint64_t last_round = 0;    /* last round in which it ran; 0 = never */
  uint64_t due_round = 0;     /* not before this one */
  uint32_t interval = 1;      /* rounds; 1 = every round, more = backing off */
  int64_t headroom_bytes = 0; /* left when it last had nothing to give; 0: none was, or it gave */
  int64_t runs = 0;
  int64_t fruitless_runs = 0;
  int64_t skips = 0; /* "cannot now" answers */
};

/** One run of a hook, measured. */
struct HookRun {
  uint64_t round = 0; /* as given to order() */
  int64_t wanted_bytes = 0;
  int64_t freed_bytes = 0; /* measured, not claimed; negative counts as 0 */
  int64_t elapsed_ns = 0;
  bool past_deadline = false;
  int64_t headroom_bytes = 0; /* below the limit when it was asked */
};

/** A hook ran. Bytes, nanoseconds; no errors; allocates nothing. */
void hook_ran(HookFigures& figures, const HookRun& run) noexcept;

/** A hook answered "cannot now": counted, not punished; it is due again in the next round. */
void hook_cannot_now(HookFigures& figures, uint64_t round) noexcept;

/** The level rose: a hook that is backing off is due again at once. */
void hook_recover(HookFigures& figures) noexcept;

/** Bytes a microsecond; 0 for a hook that never ran. */
double hook_rate(const HookFigures& figures) noexcept;

/** Whether it may be asked in this round: at the latest when half of the headroom is gone that was left when it had
 *  nothing. Bytes, negative as 0. */
bool hook_due(const HookFigures& figures, uint64_t round, int64_t headroom_bytes) noexcept;

/** Bytes that the hook frees in about `slice_ns`, judging by its figures: at least `least_bytes`,
 * at most `wanted_bytes`. Asking in slices keeps a hook's locks short and lets waiting threads go
 * in between. Allocates nothing. */
int64_t slice_for(const HookFigures& figures, int64_t wanted_bytes, int64_t least_bytes,
                  int64_t slice_ns) noexcept;

/**
 * The order in which to ask hooks in a round: those that never ran, then by measured bytes a
 * microsecond; in one round of kExploreEveryRounds the one that has waited longest goes first.
 * Hooks that are backing off are left out. Null entries are empty slots. With `everyone` (an
 * explicit reclaim, or a pacer that backs off itself: the two are not to multiply) back-off is ignored. `hooks` may be longer than kRankingMaxHooks; what is
 * beyond is ignored. `out` gets indices into `hooks`. Returns how many. No errors; any thread under
 * the caller's lock; allocates nothing.
 */
size_t order(uint64_t round, const HookFigures* const* hooks, size_t count, bool everyone,
             int64_t headroom_bytes, uint16_t* out) noexcept;

}  // namespace memlimit
