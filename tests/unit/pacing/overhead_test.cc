/* What counts of what the process holds beyond usage: the low points near the limit, up to a share of it. */
#include "pacing/overhead.h"

#include <cstdint>

#include <catch2/catch.hpp>

using memlimit::kOverheadFallDivisor;
using memlimit::kOverheadMaxDivisor;
using memlimit::kOverheadRiseDivisor;
using memlimit::overhead;
using memlimit::OverheadState;

namespace {

constexpr int64_t kLimit = int64_t{256} << 20;
constexpr int64_t kPercent = kLimit / 100;
constexpr int64_t kFall = kLimit / kOverheadFallDivisor;
constexpr int64_t kRise = kLimit / kOverheadRiseDivisor;

int64_t near_limit(OverheadState& state, int64_t beyond_bytes) {
  return overhead(state, {kLimit, kLimit, beyond_bytes});
}

/* One reading in so many is lower than the others. */
int64_t after_readings(int one_in, int64_t lower, int64_t others) {
  OverheadState state;
  int64_t counted = near_limit(state, others);
  for (int i = 1; i <= 20'000; ++i) counted = near_limit(state, i % one_in == 0 ? lower : others);
  return counted;
}

}  // namespace

TEST_CASE("overhead: nothing counts far from the limit, and without one", "[overhead]") {
  OverheadState state;
  CHECK(overhead(state, {kLimit, kLimit / 8 * 7 - 1, 2 * kPercent}) == 0);
  CHECK(overhead(state, {kLimit, kLimit / 8 * 7, 2 * kPercent}) == 2 * kPercent);
  // Until it is near again: as it was.
  CHECK(overhead(state, {kLimit, kLimit / 2, 0}) == 2 * kPercent);
  CHECK(overhead(state, {0, kLimit, 2 * kPercent}) == 0);
  CHECK(near_limit(state, 3 * kPercent) == 3 * kPercent);
}

TEST_CASE("overhead: it falls fast and rises slowly", "[overhead]") {
  OverheadState state;
  REQUIRE(near_limit(state, 2 * kPercent) == 2 * kPercent);
  CHECK(near_limit(state, 0) == 2 * kPercent - kFall);
  CHECK(near_limit(state, 4 * kPercent) == 2 * kPercent - kFall + kRise);
  CHECK(near_limit(state, 2 * kPercent - kFall) == 2 * kPercent - kFall);
}

TEST_CASE("overhead: idle pages that come and go do not count, nor do readings in between",
          "[overhead]") {
  // Mostly idle pages, given back now and then.
  CHECK(after_readings(8, kPercent, 4 * kPercent) <= kPercent + 8 * kRise);
  CHECK(after_readings(8, kPercent, 4 * kPercent) >= kPercent - kFall);
  // A reading between two counters that are not changed at once.
  CHECK(after_readings(100, -2 * kPercent, 2 * kPercent) >= 2 * kPercent - kFall);
}

TEST_CASE("overhead: a share of the limit at most, of a lower one at once", "[overhead]") {
  OverheadState state;
  CHECK(near_limit(state, INT64_MAX) == kLimit / kOverheadMaxDivisor);
  const int64_t lower = kLimit / 10;
  CHECK(overhead(state, {lower, 0, 0}) == lower / kOverheadMaxDivisor);
  CHECK(overhead(state, {lower, lower, 0}) ==
        lower / kOverheadMaxDivisor - lower / kOverheadFallDivisor);
  // Higher again: it rises from there.
  CHECK(near_limit(state, INT64_MAX) < kLimit / kOverheadMaxDivisor / 4);
}

TEST_CASE("overhead: no number is too odd", "[overhead]") {
  constexpr int64_t kOdd[] = {INT64_MIN, -1, 0, 1, 7, 1024, INT64_MAX - 1, INT64_MAX};
  for (const int64_t limit : kOdd) {
    OverheadState state;
    for (const int64_t held : kOdd) {
      for (const int64_t beyond : kOdd) {
        const int64_t counted = overhead(state, {limit, held, beyond});
        REQUIRE(counted >= 0);
        REQUIRE(counted <= (limit > 0 ? limit / kOverheadMaxDivisor : 0));
      }
    }
  }
}
