/* The pacer: single decisions with numbers worked out by hand. */
#include "pacer.h"

#include <limits>
#include <vector>

#include <catch2/catch.hpp>

using memlimit::Decision;
using memlimit::Level;
using memlimit::PacerInput;
using memlimit::PacerSettings;
using memlimit::PacerState;

namespace {
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kKiB = 1024;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
}  // namespace

TEST_CASE("pacer: margin is 3 %, at least 1 MiB, at most a sixteenth", "[pacer]") {
  CHECK(memlimit::margin_for(1000 * kMiB) == 30 * kMiB);
  CHECK(memlimit::margin_for(20 * kMiB) == kMiB);
  CHECK(memlimit::margin_for(8 * kMiB) == kMiB / 2);
  CHECK(memlimit::margin_for(1) == 0);
  CHECK(memlimit::margin_for(0) == 0);
  CHECK(memlimit::margin_for(kMax) == kMax / 100 * 3 + kMax % 100 * 3 / 100);
}

TEST_CASE("pacer: nothing is due below start, nor without a limit", "[pacer]") {
  PacerState state;
  PacerInput in{.paced_bytes = 49 * kMiB,
                .limit_bytes = 100 * kMiB,
                .allocated_bytes = 900 * kMiB,
                .quantum_bytes = 64 * kKiB};
  Decision d = memlimit::pace({}, state, in);
  CHECK_FALSE(d.round_due);
  CHECK(d.level == Level::kLow);
  CHECK(d.next_round_allocated_bytes == 901 * kMiB);
  in.limit_bytes = 0;
  in.paced_bytes = kMax;
  CHECK_FALSE(memlimit::pace({}, state, in).round_due);
}

TEST_CASE("pacer: over the limit asks for the overage and the margin at once", "[pacer]") {
  PacerState state;
  PacerInput in{.paced_bytes = 40 * kMiB,
                .limit_bytes = 100 * kMiB,
                .allocated_bytes = 40 * kMiB,
                .quantum_bytes = 64 * kKiB};
  memlimit::pace({}, state, in);
  in.paced_bytes = in.allocated_bytes = 110 * kMiB;
  const Decision d = memlimit::pace({}, state, in);
  CHECK(d.round_due);
  CHECK(d.wanted_bytes == 13 * kMiB);
  CHECK(d.level == Level::kOver);
  CHECK(d.level_changed);
}

TEST_CASE("pacer: threads that keep their quantum stay within the bound", "[pacer]") {
  for (const int64_t limit :
       {int64_t{1}, kMiB, 64 * kMiB, 256 * kMiB, 4096 * kMiB, kMiB * kMiB, kMax}) {
    int64_t sum = 0;
    for (int64_t threads = 1; threads <= 5000; ++threads) {
      sum += memlimit::quantum_for(limit, 0, threads);
      REQUIRE(sum <= std::max({limit / 100, kMiB, 4 * kKiB * threads}));
    }
  }
}
