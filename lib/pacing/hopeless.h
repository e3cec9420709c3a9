/* Whether a limit can be held at all: rounds that bring nothing, in a row, while usage is far above it.
 *
 * Answers for: when to stop asking because nothing is left to give, and what the program would have needed. The limiter
 * answers the same question by CPU time; rounds that bring nothing come so rarely that its bucket may never fill, and a
 * leak would go unannounced. Refuses: clocks, atomics, locks, I/O, allocation.
 * Threads: any, one at a time for one HopelessState; the caller has the lock.
 */
#pragma once

#include <cstdint>

#include "pacing/limiter.h"

namespace memlimit {

/** Rounds in a row in which somebody was asked, or nobody was there to ask, and next to nothing came of it. */
inline constexpr int kHopelessRounds = 6;

/** Rounds in which all who were asked said "cannot now" say nothing about what there is to give: a signal handler that
 *  collects garbage may need half a second until its first byte is free, and six rounds pass within a millisecond of a
 *  program that allocates. Whoever cannot for this long is counted as who has nothing. */
inline constexpr int64_t kHopelessUnansweredNs = 1'000'000'000;

/** Plain data; value-initialise to begin, and again in the child of a fork. */
struct HopelessState {
  bool on = false;
  int answered = 0;          /* of the fruitless rounds in a row */
  int64_t vain_since_ns = 0; /* the first of them ended */
  int64_t on_since_ns = 0;   /* when the present or last episode began */
  int64_t episodes = 0;      /* times it came on */
  int64_t needed_bytes = 0;  /* paced bytes in this or the last episode */
};

/** What a decision is made of. */
struct HopelessInput {
  int64_t now_ns = 0;
  int64_t limit_bytes = 0; /* 0: none */
  int64_t paced_bytes = 0;
  int fruitless = 0; /* rounds in a row, PacerState::fruitless */
};

/**
 * hopeless_round_done() - a round has ended
 * @state:     changed
 * @fruitless: rounds in a row that were fruitless, this one included
 * @answered:  false when all who were asked said "cannot now"
 * @now_ns:    of a monotonic clock
 */
void hopeless_round_done(HopelessState& state, int fruitless, bool answered,
                         int64_t now_ns) noexcept;

/**
 * hopeless_update() - whether the limit is out of reach now
 * @state: changed
 * @in:    as it is now
 *
 * It comes on when usage is over the limit by more than the pacer's margin, and goes off when usage is no longer over it
 * or a round brought something.
 */
LimiterChange hopeless_update(HopelessState& state, const HopelessInput& in) noexcept;

}  // namespace memlimit
