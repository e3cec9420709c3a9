/* When a limit is given up: rounds in a row, answers and time. */
#include "pacing/hopeless.h"

#include <catch2/catch.hpp>

#include "pacing/pacer.h"

namespace {

using memlimit::HopelessState;
using memlimit::kHopelessRounds;
using memlimit::kHopelessUnansweredNs;
using memlimit::LimiterChange;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kLimit = 256 * kMiB;
constexpr int64_t kOver = 2 * kLimit;
constexpr int64_t kMs = 1'000'000;

/* A streak of fruitless rounds, a millisecond apart, and what was decided after each. */
struct Rounds {
  HopelessState state;
  int fruitless = 0;
  int64_t now_ns = 500 * kMs; /* no clock begins at 0 */

  LimiterChange fruitless_round(bool answered, int64_t paced_bytes = kOver) {
    now_ns += kMs;
    memlimit::hopeless_round_done(state, ++fruitless, answered, now_ns);
    return decide(paced_bytes);
  }
  LimiterChange fruitful_round(int64_t paced_bytes = kOver) {
    now_ns += kMs;
    fruitless = 0;
    memlimit::hopeless_round_done(state, 0, true, now_ns);
    return decide(paced_bytes);
  }
  LimiterChange decide(int64_t paced_bytes) {
    return memlimit::hopeless_update(state, {now_ns, kLimit, paced_bytes, fruitless});
  }
};

}  // namespace

TEST_CASE("hopeless: six rounds in a row that had nothing", "[hopeless]") {
  Rounds rounds;
  for (int i = 1; i < kHopelessRounds; ++i) {
    REQUIRE(rounds.fruitless_round(true) == LimiterChange::kNone);
  }
  CHECK(rounds.fruitless_round(true) == LimiterChange::kCameOn);
  CHECK(rounds.state.on);
  CHECK(rounds.state.episodes == 1);
  CHECK(rounds.state.needed_bytes == kOver);
  CHECK(rounds.state.on_since_ns == rounds.now_ns);
}

TEST_CASE("hopeless: a round that brought something begins the count anew", "[hopeless]") {
  Rounds rounds;
  for (int i = 1; i < kHopelessRounds; ++i) rounds.fruitless_round(true);
  rounds.fruitful_round();
  for (int i = 1; i < kHopelessRounds; ++i) {
    REQUIRE(rounds.fruitless_round(true) == LimiterChange::kNone);
  }
  CHECK(rounds.fruitless_round(true) == LimiterChange::kCameOn);
}

TEST_CASE("hopeless: who cannot now has not said that nothing is left", "[hopeless]") {
  Rounds rounds;
  for (int i = 0; i < 100 * kHopelessRounds; ++i) {
    REQUIRE(rounds.fruitless_round(false) == LimiterChange::kNone);
  }
  // A second of it is an answer.
  rounds.now_ns = rounds.state.vain_since_ns + kHopelessUnansweredNs - 1;
  CHECK(rounds.decide(kOver) == LimiterChange::kNone);
  rounds.now_ns += 1;
  CHECK(rounds.decide(kOver) == LimiterChange::kCameOn);
}

TEST_CASE("hopeless: the second begins with the first fruitless round", "[hopeless]") {
  Rounds rounds;
  rounds.fruitless_round(false);
  rounds.fruitful_round();
  rounds.now_ns += 10 * kHopelessUnansweredNs;
  for (int i = 0; i <= kHopelessRounds; ++i) {
    REQUIRE(rounds.fruitless_round(false) == LimiterChange::kNone);
  }
}

TEST_CASE("hopeless: answers count among rounds that could not", "[hopeless]") {
  Rounds rounds;
  for (int i = 1; i < kHopelessRounds; ++i) {
    REQUIRE(rounds.fruitless_round(true) == LimiterChange::kNone);
    REQUIRE(rounds.fruitless_round(false) == LimiterChange::kNone);
  }
  CHECK(rounds.fruitless_round(true) == LimiterChange::kCameOn);
}

TEST_CASE("hopeless: just over the limit is none, and below it is the end", "[hopeless]") {
  Rounds rounds;
  const int64_t just_over = kLimit + memlimit::margin_for(kLimit);
  for (int i = 0; i < 2 * kHopelessRounds; ++i) {
    REQUIRE(rounds.fruitless_round(true, just_over) == LimiterChange::kNone);
  }
  CHECK(rounds.decide(just_over + 1) == LimiterChange::kCameOn);
  CHECK(rounds.decide(kLimit + 1) == LimiterChange::kNone);
  CHECK(rounds.state.on);
  CHECK(rounds.decide(kLimit) == LimiterChange::kWentOff);
  CHECK_FALSE(rounds.state.on);
  CHECK(rounds.state.needed_bytes == kLimit + 1);
}

TEST_CASE("hopeless: a round that brings something ends it", "[hopeless]") {
  Rounds rounds;
  for (int i = 0; i < kHopelessRounds; ++i) rounds.fruitless_round(true);
  REQUIRE(rounds.state.on);
  CHECK(rounds.fruitful_round() == LimiterChange::kWentOff);
  CHECK(rounds.state.episodes == 1);
}

TEST_CASE("hopeless: without a limit there is nothing to hold", "[hopeless]") {
  HopelessState state;
  memlimit::hopeless_round_done(state, kHopelessRounds, true, kMs);
  CHECK(memlimit::hopeless_update(state, {kMs, 0, kOver, kHopelessRounds}) == LimiterChange::kNone);
}
