/* The limiter: reclaim may take at most half of the CPU time, then the limit is let go.
 *
 * Answers for: the leaky bucket of Go's mgclimit.go, fed with numbers so that its arithmetic can be
 * tested by hand; the state that is published (on or off, episodes, skipped rounds, and the usage
 * that the program would have needed). Refuses: clocks, atomics, locks, I/O, allocation.
 * Threads: any, one at a time for one LimiterState; the caller has the lock.
 *
 * The bucket fills with the time that reclaim takes and drains with the time that the program gets,
 * one to one, hence 50 %. It never goes below empty: a program that idled for an hour has no claim
 * to an hour of reclaim. When it is full the limiter is on and rounds are to be skipped until it is
 * half empty.
 */
#pragma once

#include <cstdint>

namespace memlimit {

/** Reclaim CPU time that may pile up for each core before the limiter comes on. As in Go: long
 *  enough for the burst after a limit was lowered, short enough that nobody calls it a hang. */
inline constexpr int64_t kLimiterCapacityNsPerCore = 1'000'000'000;

/** Once on, it stays on until the bucket is down to capacity / 2. (Go releases at once and then
 *  flips every few milliseconds; an episode should be something a person can read about.) */
inline constexpr int64_t kLimiterReleaseDivisor = 2;

/** Wall time drains at 1 % of one core while the program itself does less: else an idle program
 *  would stay without its limit for ever. 1 % is what Go grants its background scavenger. */
inline constexpr int64_t kLimiterIdleDivisor = 100;

/** More cores than this are counted as this many (keeps the arithmetic far from overflow). */
inline constexpr int64_t kLimiterMaxCores = 1 << 16;

/** Plain data; value-initialise to begin, and again in the child of a fork. */
struct LimiterState {
  bool started = false; /* the totals below are valid */
  bool on = false;
  int64_t now_ns = 0;         /* at the last update */
  int64_t process_cpu_ns = 0; /* totals at the last update */
  int64_t reclaim_cpu_ns = 0;
  int64_t stalled_ns = 0;
  int64_t fill_ns = 0;             /* Invariant: 0 <= fill <= capacity */
  int64_t capacity_ns = 0;         /* as of the last update; changes with the cores */
  int64_t overflow_ns = 0;         /* reclaim time that found the bucket full; ever */
  int64_t on_since_ns = 0;         /* when the present or last episode began */
  int64_t on_total_ns = 0;         /* time spent on, the present episode included */
  int64_t episodes = 0;            /* times it came on */
  int64_t skipped = 0;             /* rounds that did not run because of it */
  int64_t lowest_paced_bytes = -1; /* after a round, in this filling; -1 = no round */
  int64_t needed_bytes =
      0; /* what rounds left, at least, before this or the last episode; 0 = none */
  int64_t filling_process_ns = 0; /* totals when the bucket began to fill */
  int64_t filling_reclaim_ns = 0;
  int64_t filling_stalled_ns = 0;
  int64_t took_reclaim_ns =
      0; /* from then until this or the last episode: by reclaim, or by waiting for it */
  int64_t took_process_ns = 0; /* by the process, reclaim included */
};

enum class LimiterChange { kNone, kCameOn, kWentOff };

/**
 * Feeds the totals as they are now, each since the start of the process.
 * `process_cpu_ns` contains `reclaim_cpu_ns_total`; `stalled_ns_total` is the time that threads of
 * the program waited for rounds (assists), not CPU time; it counts where it exceeds the reclaim's.
 * Call it when a round begins and when it ends, with the round's CPU time in the totals by then,
 * and between the hooks of a long round, which is to end when the limiter comes on. Totals that go
 * backwards (another clock, the child of a fork) count as no time passed. Returns what changed,
 * for the one line in the log. Nanoseconds; no errors; any thread under the caller's lock;
 * allocates nothing.
 */
LimiterChange limiter_update(LimiterState& state, int64_t now_ns, int64_t process_cpu_ns,
                             int64_t reclaim_cpu_ns_total, int64_t cores,
                             int64_t stalled_ns_total = 0) noexcept;

/** There is no limit any more, hence none to let go: ends the episode. The bucket keeps what it holds, and
 *  drains as ever from the next update on. Allocates nothing. */
LimiterChange limiter_release(LimiterState& state) noexcept;

/** A round ended and left this much paced: the estimate of what the program cannot do without. Call
 *  it before the limiter_update() at the end of the round. When the limiter came on in the middle
 *  of the round, `needed_bytes` may be 0 until then. Bytes; allocates nothing. */
void limiter_round_done(LimiterState& state, int64_t paced_bytes) noexcept;

/** A round was due and did not run because the limiter is on. Allocates nothing. */
void limiter_round_skipped(LimiterState& state) noexcept;

/** Whether rounds are to be skipped. */
inline bool enabled(const LimiterState& state) noexcept { return state.on; }

/** How full the bucket is, 0..100 percent. */
int limiter_fill_percent(const LimiterState& state) noexcept;

}  // namespace memlimit
