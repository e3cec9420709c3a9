/* The limiter: its arithmetic against numbers worked out by hand. */
#include "limiter.h"

#include <catch2/catch.hpp>

using memlimit::limiter_update;
using memlimit::LimiterChange;
using memlimit::LimiterState;

namespace {
constexpr int64_t kMs = 1'000'000;
}

TEST_CASE("limiter: fills with reclaim, drains one to one with the program", "[limiter]") {
  LimiterState s;
  CHECK(limiter_update(s, 0, 0, 0, 1) == LimiterChange::kNone);
  // 100 ms of CPU, 70 of them reclaim: 70 in, 30 out.
  CHECK(limiter_update(s, 100 * kMs, 100 * kMs, 70 * kMs, 1) == LimiterChange::kNone);
  CHECK(s.fill_ns == 40 * kMs);
  // 50 ms of the program alone.
  limiter_update(s, 150 * kMs, 150 * kMs, 70 * kMs, 1);
  CHECK(s.fill_ns == 0);
  // A second more: no credit.
  limiter_update(s, 1150 * kMs, 1150 * kMs, 70 * kMs, 1);
  CHECK(s.fill_ns == 0);
  CHECK_FALSE(memlimit::enabled(s));
}

TEST_CASE("limiter: comes on when a CPU-second a core has piled up", "[limiter]") {
  LimiterState s;
  limiter_update(s, 0, 0, 0, 2);
  CHECK(limiter_update(s, 1999 * kMs, 1999 * kMs, 1999 * kMs, 2) == LimiterChange::kNone);
  memlimit::limiter_round_done(s, 610);
  CHECK(limiter_update(s, 2000 * kMs, 2000 * kMs, 2000 * kMs, 2) == LimiterChange::kCameOn);
  CHECK(memlimit::enabled(s));
  CHECK(s.episodes == 1);
  CHECK(s.needed_bytes == 610);
  CHECK(limiter_update(s, 2999 * kMs, 2999 * kMs, 2000 * kMs, 2) == LimiterChange::kNone);
  CHECK(limiter_update(s, 3000 * kMs, 3000 * kMs, 2000 * kMs, 2) == LimiterChange::kWentOff);
  CHECK(s.on_total_ns == 1000 * kMs);
}
