/* The pacer: when a round of reclaim is due, and for how many bytes.
 *
 * Answers for: the cadence (the closer to the limit, the more often), the number of bytes asked
 * for, the level that hooks see, the quantum of the counters, and backing off when rounds bring
 * nothing.
 * Refuses: clocks, atomics, locks, I/O, allocation. Numbers in, a decision out, so that a
 * simulation can drive it through millions of steps (bench/pacer_sim.cc).
 * Threads: any, one at a time for one PacerState; the caller has the lock.
 *
 * What it steers by. Growth is how far usage rises above the highest point it was seen at, less
 * what hooks gave since: memory that the program frees by itself and takes again is not growth, so
 * a program that breathes below the limit keeps its caches. Of growth a share is owed, small at
 * the start threshold and all of it at the target (96 %), where a cache that is filled for ever
 * comes to rest. Above the target the distance to it is owed too, at the limit the overage and a
 * margin. What is owed is asked for when the gap has passed, and when it is worth what the hooks
 * give at least (some can only drop everything). Slow hooks lower the target by what grows until
 * they take effect.
 */
#pragma once

#include <cstdint>

namespace memlimit {

/** Same values as enum memlimit_level in the public header. */
enum class Level : int { kLow, kModerate, kCritical, kOver };

// --- Constants. The simulated figures are of an LRU cache filled for ever by two threads, limit
// --- 256 MiB, unless something else is said. Other values: bench/sweep_pacer.py.

/** The gap between two rounds is headroom / kGapDivisor bytes of allocation. Simulated: 3 gives 72
 *  rounds for each limit's worth of allocation, 8 gives 180 and holds usage no better. */
inline constexpr int64_t kGapDivisor = 3;

/** Where asking equals growing, in percent of the limit; half way to the limit when start is later.
 *  Simulated: 96 peaks at 0.975 of the limit, 98 at 0.995, 94 leaves 2 % of the cache unused. */
inline constexpr int64_t kTargetPercent = 96;

/** ...but no more than this is left unused: how far usage rises until hooks take effect does not grow with the limit. Where
 *  they are slow the lag lowers the target (below). */
inline constexpr int64_t kReserveMaxBytes = int64_t{128} << 20;

/** The share asked for rises with this power of the way from start to target; at least a quantum is
 *  asked for where anything grew. Simulated: 1 takes a
 *  sixth of the cache of a program that swings between 50 % and 95 %, 4 a twelfth; from 6 on slow
 *  hooks (20 ms) overshoot on arrival, to 1.04. */
inline constexpr int kSharePower = 4;

/** Growth that counts in one look is at most this many gaps, or times what the last round freed: a
 *  single large block that still fits is no reason to empty a cache. */
inline constexpr int64_t kGrowthGaps = 2;

/** How far usage goes on rising after a decision (slow hooks) lowers the target, by at most
 *  limit / 8, as far as half of the way from target to limit does not hold it. Smoothed; quick to
 *  rise, slow to fall. Simulated: a hook that takes 20 ms peaks at 1.02 on arrival and stays below
 *  0.98 then; without this it settled at 1.15. */
inline constexpr int64_t kLagMaxDivisor = 8;
inline constexpr int64_t kLagReserveDivisor = 2;
inline constexpr double kLagRise = 0.5;
inline constexpr double kLagFall = 0.125;

/** Hooks that give twice of what was expected of them give in lumps: they are asked when a lump is
 *  owed. What counts is the least they gave of late. */
inline constexpr int64_t kLumpRatio = 2;

/** Hooks that by habit give more or less than they are asked for are asked for less or more, within
 *  these bounds; each round counts for a quarter. Simulated: hooks that free ten times or a third
 *  of what is wanted hold usage as one that obeys does (without: at 0.73, and 1.0 with eight times
 *  the rounds). */
inline constexpr double kYieldMin = 0.25;
inline constexpr double kYieldMax = 16.0;
inline constexpr double kYieldWeight = 0.25;

/** At the limit, ask for the overage and this much: Go's reserve below its limit (issue 57069). */
inline constexpr int64_t kMarginPercent = 3;
inline constexpr int64_t kMarginMinBytes = int64_t{1} << 20;
inline constexpr int64_t kMarginMaxBytes = int64_t{96} << 20;

/** ...but never more than limit / 16: below 16 MiB a MiB would drop usage out of the 90 % band. */
inline constexpr int64_t kMarginMaxDivisor = 16;

/** A round that brought less than wanted / 8 is fruitless: the next gap is twice as long... */
inline constexpr int64_t kFruitlessDivisor = 8;

/** ...up to limit / 16: a leak sees 16 rounds for each limit's worth of allocation. Below the limit it ends, too, when half of
 *  the headroom is gone that was left after the fruitless round: hooks that had nothing at 72 % of the limit were not asked
 *  again before the limit. */
inline constexpr int64_t kBackoffCapDivisor = 16;

/** One round at a time: while one is under way no other is due. A hook may take long, but a round
 *  of which no end was reported (a hook hangs) is forgotten after as much allocation as it was for
 *  and twice the limit, or, once usage is over the limit, an eighth of it. */
inline constexpr int64_t kLostRoundLimits = 2;
inline constexpr int64_t kLostRoundDivisor = 8;

/** MEMLIMIT_GROWTH: ask for a quarter of what grew, so that a cache may still grow; and no round
 *  below 4 MiB, as Go's heapMinimum. */
inline constexpr int64_t kGrowthShareDivisor = 4;
inline constexpr int64_t kGrowthMinBytes = int64_t{4} << 20;

/** Bounds of the quantum. Measured: 64 KiB batches cost about 1 ns an operation; below 2 KiB every
 *  second allocation of an ordinary program would take the slow path. */
inline constexpr int64_t kQuantumMaxBytes = int64_t{64} << 10;
inline constexpr int64_t kQuantumMinBytes = int64_t{2} << 10;

/** What threads may keep for their next allocations: one that is alone a 128th of the limit, within these bounds, and many
 *  together no more than that. The upper one is what the heap lets a thread keep without a limit. */
inline constexpr int64_t kCacheLimitDivisor = 128;
inline constexpr int64_t kCacheMinBytes = int64_t{64} << 10;
inline constexpr int64_t kCacheMaxBytes = int64_t{16} << 20;

/** Runtimes are asked to collect from this share of the way from where rounds begin to the limit on: a collection
 *  takes as long however much of the heap is garbage, so the later, the fewer. Measured, a table of objects that
 *  Node replaces one by one at 272 MiB: 3.1 s from where rounds begin on, 2.2 s from half way on, 1.6 s without a limit. */
inline constexpr int64_t kRuntimeStartPercent = 50;

// --- The interface ---

/** What the user set. */
struct PacerSettings {
  int start_percent = 50; /* of the limit; 0..100 */
  int growth_percent = 0; /* 0 = off */
};

/** What the caller measured. Negative numbers count as 0. */
struct PacerInput {
  int64_t paced_bytes = 0;     /* the number that is held to the limit */
  int64_t limit_bytes = 0;     /* 0 = none */
  int64_t allocated_bytes = 0; /* ever allocated; monotonic */
  int64_t quantum_bytes = 0;   /* the precision of the two above; from quantum_for() */
  int64_t own_bytes =
      -1; /* the process's part of a paced number that it shares with others; else -1 */
};

/** Plain data; value-initialise to begin, and again in a child of fork whose counters restart. */
struct PacerState {
  int64_t limit_bytes = 0;              /* at the last look */
  int64_t looked_at_bytes = 0;          /* allocated at the last look */
  int64_t peak_bytes = 0;               /* growth counts from here */
  int64_t grown_bytes = 0;              /* growth since the last round was decided */
  int64_t owed_bytes = 0;               /* the share of it that is to be asked for */
  int64_t decided_at_bytes = 0;         /* allocated when the last round was decided */
  int64_t open_bytes = 0;               /* asked for in the round that is under way; 0 = none is */
  int64_t open_paced_bytes = 0;         /* paced when it was decided */
  int64_t open_peak_bytes = 0;          /* the highest since */
  bool open_shared = false;             /* paced was of several processes */
  int64_t open_freed_bytes = 0;         /* by parts of the round that have ended */
  int64_t freed_bytes = 0;              /* by the last round, as far as it was expected */
  int64_t lag_bytes = 0;                /* how far usage rises after a decision */
  int64_t lump_bytes = 0;               /* the least that hooks give, if they give too much */
  int64_t growth_base_bytes = 0;        /* paced after the last round, for MEMLIMIT_GROWTH */
  double yield = 1.0;                   /* freed for each byte asked for, smoothed */
  int fruitless = 0;                    /* fruitless rounds in a row */
  int64_t fruitless_headroom_bytes = 0; /* left below the limit after the last of them */
  Level level = Level::kLow;
};

struct Decision {
  bool round_due = false;
  int64_t wanted_bytes = 0; /* to ask the hooks for; 0 when no round is due */
  Level level = Level::kLow;
  bool level_changed = false;
  /* No round is due before `allocated` is here, unless paced bytes rise without allocation, the
   * limit changes or the round under way ends. */
  int64_t next_round_allocated_bytes = 0;
};

/** What a round came to, in numbers measured at its end. */
struct RoundResult {
  int64_t wanted_bytes = 0;    /* 0 for a round that the pacer did not ask for */
  int64_t freed_bytes = 0;     /* measured, not claimed */
  int64_t paced_bytes = 0;     /* now; read anew, or the round seems to have brought nothing */
  int64_t allocated_bytes = 0; /* now */
};

/** Looks at usage. Call it at most once a quantum of allocation, also while a round is under way;
 *  after the limit changed; and after round_done().
 *  Bytes; no errors; any thread under the caller's lock; allocates nothing. */
Decision pace(const PacerSettings& settings, PacerState& state, const PacerInput& input) noexcept;

/** The round ended. Call pace() next: what grew meanwhile may make another due at once. A second
 *  end of one round (its POLL hooks, say) changes nothing.
 *  Bytes; no errors; any thread under the caller's lock; allocates nothing. */
void round_done(PacerState& state, const RoundResult& result) noexcept;

/** A part of the round ended (its INLINE hooks) and another goes on.
 *  Bytes; no errors; any thread under the caller's lock; allocates nothing. */
void round_partly_done(PacerState& state, int64_t freed_bytes) noexcept;

/** The round that was decided did not run (the limiter is on): forgets it and holds nothing against
 *  the hooks. No errors; any thread under the caller's lock; allocates nothing. */
void round_skipped(PacerState& state) noexcept;

/** What one process of a group is asked to give back when the group is `excess_bytes` over its
 * limit: its part by size, rounded up, never more than it has. A process that holds half of the
 * group's working set is asked for half. (Below the limit each is asked for what itself grew.) All in
 * bytes; unknown (negative) sizes give 0 and, for an unknown group, the whole excess. */
int64_t fair_share(int64_t own_bytes, int64_t group_bytes, int64_t excess_bytes) noexcept;

/** In the middle of a round: the bytes still worth freeing, 0 = stop. A round ends when hooks have
 *  freed what was wanted, or usage has fallen by as much since it began, whoever did it, or as far as
 *  deepest_fall() says. Bytes; no errors; any thread; allocates nothing. */
int64_t still_wanted(int64_t wanted_bytes, int64_t freed_bytes, int64_t paced_at_begin_bytes,
                     int64_t paced_now_bytes, int64_t deepest_fall_bytes) noexcept;

/** How far a round that begins at this usage may lower it: to a margin below the target, or below
 *  where it is. What is wanted may be more than that, for it counts what grows while hooks free as
 *  much: where they are just as fast as the program each round asks for what the one before freed,
 *  and what grew, and when the program pauses in the end all of it would be taken from its cache.
 *  Measured, a ring at 300 MiB: rounds of 125 MiB, and usage down to 0.82 of the limit; with this
 *  0.90. Bytes; no errors; any thread; allocates nothing. */
int64_t deepest_fall(int64_t paced_bytes, int64_t limit_bytes) noexcept;

/** Whether a round at this level of use is for runtimes too (kRuntimeStartPercent). Always without a limit, or when
 *  the user wants rounds at growth. No errors; any thread; allocates nothing. */
bool asks_runtimes(const PacerSettings& settings, int64_t paced_bytes,
                   int64_t limit_bytes) noexcept;

/** The level at this usage for who comes to it for the first time: without the hysteresis of pace(). Low without a limit.
 *  Bytes; no errors; any thread; allocates nothing. */
Level level_at(const PacerSettings& settings, int64_t paced_bytes, int64_t limit_bytes) noexcept;

/** Bytes of allocation between two rounds at this usage: headroom / kGapDivisor, never less than a
 *  quantum, monotone in headroom. Bytes; no errors; any thread; allocates nothing. */
int64_t round_gap(int64_t paced_bytes, int64_t limit_bytes, int64_t quantum_bytes) noexcept;

/** What is asked for beyond the overage: 3 % of the limit, at least 1 MiB, at most 96 MiB and 1/16 of the limit.
 *  Bytes; no errors; any thread; allocates nothing. */
int64_t margin_for(int64_t limit_bytes) noexcept;

/** Bytes a thread may allocate (or free) before it publishes: 64 KiB far from the limit, less near
 *  it and with more threads. However threads come and go, and if each keeps the quantum it got
 *  when it last looked, their sum is at most the largest of 1 % of the limit, 1 MiB and 4 KiB a
 *  thread. Without a limit: 64 KiB. Bytes; no errors; any thread; allocates nothing. */
int64_t quantum_for(int64_t limit_bytes, int64_t paced_bytes, int64_t threads) noexcept;

/** What a thread that is alone may keep for its next allocations, and many together. Bytes; no errors; any thread;
 *  allocates nothing. */
int64_t cache_for(int64_t limit_bytes) noexcept;

}  // namespace memlimit
