/* When idle pages are given back: never without need, at a price while there is room, at once past it. */
#include "pacing/purge_pacer.h"

#include <algorithm>

#include <catch2/catch.hpp>

using memlimit::descent_due;
using memlimit::purge_due;
using memlimit::PurgeInput;
using memlimit::purges_in_vain;
using memlimit::PurgeState;
using memlimit::slack_for;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kLimit = 400 * kMiB;
constexpr int64_t kSlack = 10 * kMiB;
constexpr int64_t kMs = 1'000'000;

/* A process that uses `usage` and holds `held`, alone. */
PurgeInput holding(int64_t usage, int64_t held) {
  PurgeInput in;
  in.limit_bytes = kLimit;
  in.usage_bytes = usage;
  in.held_bytes = held;
  in.counted_bytes = held;
  in.slack_bytes = kSlack;
  return in;
}

/* How often a purge is due in a second, looking every millisecond; `rate` is allocated in each. Each purge gives `given`,
 * which the program takes again at once, or leaves. */
int purges_in_a_second(PurgeInput in, int64_t rate, int64_t given, bool taken_again = true) {
  PurgeState state;
  int purges = 0;
  for (int64_t ms = 0; ms < 1000; ++ms) {
    in.allocated_bytes += rate;
    if (!purge_due(state, in, ms * kMs)) continue;
    ++purges;
    in.purged_bytes += given;
    if (taken_again) continue;
    in.held_bytes -= given;
    in.counted_bytes -= given;
  }
  return purges;
}

}  // namespace

TEST_CASE("purge pacer: the slack is a 40th of the limit, and a quarter of the container's room",
          "[purge]") {
  CHECK(slack_for(kLimit, -1) == kSlack);
  CHECK(slack_for(kLimit, 400 * kMiB) == kSlack);
  CHECK(slack_for(kLimit, 20 * kMiB) == 5 * kMiB);
  CHECK(slack_for(kLimit, 0) == 0);
  CHECK(slack_for(0, -1) == 0);
  CHECK(slack_for(INT64_MAX, -1) == INT64_MAX / 40);
}

TEST_CASE("purge pacer: nothing is due without a limit, idle pages or nearness", "[purge]") {
  PurgeState state;
  PurgeInput none = holding(100 * kMiB, 500 * kMiB);
  none.limit_bytes = 0;
  CHECK_FALSE(purge_due(state, none, 0));
  CHECK_FALSE(purge_due(state, holding(399 * kMiB, 401 * kMiB), 0));
  CHECK_FALSE(purge_due(state, holding(100 * kMiB, 349 * kMiB), 0));
  CHECK(purge_due(state, holding(100 * kMiB, 351 * kMiB), 0));
}

TEST_CASE("purge pacer: what others of the group hold counts for nearness", "[purge]") {
  PurgeState state;
  PurgeInput in = holding(20 * kMiB, 60 * kMiB);
  CHECK_FALSE(purge_due(state, in, 0));
  in.counted_bytes = 380 * kMiB;
  CHECK(purge_due(state, in, 0));
}

TEST_CASE("purge pacer: below the limit purges in vain back off", "[purge]") {
  const PurgeInput in = holding(300 * kMiB, 390 * kMiB);
  CHECK(purges_in_a_second(in, kMiB, 0) <= 6);
  CHECK(purges_in_a_second(in, kMiB, 20 * kMiB) <= 6);
  // From 390 down to where an eighth of the limit is free.
  CHECK(purges_in_a_second(in, kMiB, 8 * kMiB, false) == 6);
}

TEST_CASE("purge pacer: below the limit what is idle must be worth it", "[purge]") {
  PurgeState state;
  CHECK_FALSE(purge_due(state, holding(366 * kMiB, 390 * kMiB), 0));
  CHECK(purge_due(state, holding(364 * kMiB, 390 * kMiB), 0));
}

TEST_CASE("purge pacer: what a program that breathes takes again is not idle", "[purge]") {
  PurgeState state;
  PurgeInput in = holding(398 * kMiB, 402 * kMiB);
  memlimit::note_usage(state, in);
  in.usage_bytes = 380 * kMiB;
  memlimit::note_usage(state, in);
  CHECK_FALSE(purge_due(state, in, 0));
  // Not for ever: a quarter of the limit later it was never taken again.
  for (int i = 0; i < 2; ++i) {
    in.allocated_bytes += kLimit / memlimit::kBreathDivisor;
    memlimit::note_usage(state, in);
  }
  CHECK(memlimit::highest_usage(state) == 380 * kMiB);
  CHECK(purge_due(state, in, 0));
}

TEST_CASE("purge pacer: the further into the slack, the more often", "[purge]") {
  constexpr int64_t kRate =
      32 * kMiB; /* a millisecond; so that the clock alone is the slower one */
  constexpr int64_t kGiven = 8 * kMiB;
  int before = 0;
  for (int64_t excess = 1; excess <= 12; ++excess) {
    const int now = purges_in_a_second(holding(380 * kMiB, kLimit + excess * kMiB), kRate, kGiven);
    CAPTURE(excess, before);
    CHECK(now >= before);
    before = now;
  }
  // At the limit what is given back is a 64th of what is allocated, and past the slack only time counts.
  const int at_limit = purges_in_a_second(holding(380 * kMiB, kLimit + 1), kRate, kGiven);
  CHECK(at_limit * kGiven * memlimit::kPurgePrice <= 1000 * kRate + kGiven * memlimit::kPurgePrice);
  CHECK(before >= 8);
  CHECK(before <= 12);
}

TEST_CASE("purge pacer: past the slack, purges that give nothing become rare", "[purge]") {
  const PurgeInput in = holding(380 * kMiB, kLimit + 12 * kMiB);
  CHECK(purges_in_a_second(in, 4 * kMiB, 0) <= 10);
  CHECK(purges_in_a_second(in, 4 * kMiB, 8 * kMiB) <= 10);
  // But what is given back and stays away ends the waiting.
  CHECK(purges_in_a_second(holding(100 * kMiB, 2 * kLimit), 4 * kMiB, 7 * kMiB, false) > 60);
}

TEST_CASE("purge pacer: what became idle since ends the waiting past the slack", "[purge]") {
  PurgeState state;
  PurgeInput in = holding(380 * kMiB, kLimit + 12 * kMiB);
  int64_t now_ns = 0;
  int64_t last_ns = 0;
  for (; now_ns < 2'000'000'000; now_ns += 1'000'000) {
    if (purge_due(state, in, now_ns)) last_ns = now_ns;
  }
  REQUIRE_FALSE(purge_due(state, in, last_ns + 100'000'000));
  in.usage_bytes -= 30 * kMiB;
  CHECK(purge_due(state, in, last_ns + 101'000'000));
}

TEST_CASE("purge pacer: a purge is in vain once it has ended and is still past the slack",
          "[purge]") {
  PurgeState state;
  PurgeInput in = holding(380 * kMiB, kLimit + 12 * kMiB);
  in.ended = 7;
  int64_t now_ns = 0;
  const auto in_vain = [&] {
    purge_due(state, in, now_ns += 100 * kMs);
    return purges_in_vain(state, in);
  };
  CHECK_FALSE(in_vain());
  CHECK_FALSE(in_vain());
  in.ended = 8;
  CHECK(in_vain());

  SECTION("and from the beginning when the footprint was back within the slack") {
    in.held_bytes = in.counted_bytes = kLimit + 9 * kMiB;
    CHECK_FALSE(in_vain());
    in.held_bytes = in.counted_bytes = kLimit + 12 * kMiB;
    CHECK_FALSE(in_vain());
    in.ended = 9;
    CHECK(in_vain());
  }
  SECTION("and from the beginning when what is held was in use meanwhile") {
    in.usage_bytes = in.held_bytes;
    CHECK_FALSE(in_vain());
    in.usage_bytes = 380 * kMiB;
    CHECK_FALSE(in_vain());
    in.ended = 9;
    CHECK(in_vain());
  }
}

TEST_CASE("purge pacer: within the slack no purge is in vain", "[purge]") {
  PurgeState state;
  PurgeInput in = holding(380 * kMiB, kLimit + 9 * kMiB);
  for (int64_t ms = 0; ms < 1000; ++ms) {
    ++in.ended;
    purge_due(state, in, ms * kMs);
    CHECK_FALSE(purges_in_vain(state, in));
  }
}

TEST_CASE("purge pacer: a program that allocates nothing is purged by the clock alone", "[purge]") {
  CHECK(purges_in_a_second(holding(100 * kMiB, kLimit + kMiB), 0, 20 * kMiB) == 5);
  CHECK(purges_in_a_second(holding(100 * kMiB, kLimit + kMiB), 0, 20 * kMiB, false) == 3);
}

namespace {

/* How often what became idle is purged while usage goes from one figure to another and nothing else is held. */
int descents(PurgeState& state, int64_t from, int64_t to, int64_t* held) {
  int purges = 0;
  const int64_t step = from < to ? kMiB : -kMiB;
  for (int64_t usage = from; usage != to + step; usage += step) {
    *held = std::max(*held, usage);
    if (!descent_due(state, holding(usage, *held))) continue;
    ++purges;
    *held = usage;
  }
  return purges;
}

}  // namespace

TEST_CASE("purge pacer: a program that frees what it has keeps little of it", "[purge]") {
  PurgeState state;
  int64_t held = 0;
  CHECK(descents(state, 0, 300 * kMiB, &held) == 0);
  CHECK(descents(state, 300 * kMiB, 0, &held) == 9);
  // Below a quarter of the limit it matters to nobody.
  CHECK(held <= kLimit / memlimit::kDescentHeldDivisor);
}

TEST_CASE("purge pacer: a program that takes again what it gives back is left alone soon",
          "[purge]") {
  PurgeState state;
  int64_t held = 0;
  int purges = 0;
  for (int breath = 0; breath < 1000; ++breath) {
    purges += descents(state, 200 * kMiB, 300 * kMiB, &held);
    purges += descents(state, 300 * kMiB, 200 * kMiB, &held);
  }
  CHECK(purges < 20);
  // And purged again when it goes down for good: by halves of what it had to fall.
  purges = 0;
  for (int64_t usage = 300 * kMiB; usage > 0 && purges == 0; usage -= kMiB) {
    if (descent_due(state, holding(usage, 300 * kMiB))) ++purges;
  }
  CHECK(purges <= 1);
}

TEST_CASE("purge pacer: without a limit, or with little idle, nothing is due on the way down",
          "[purge]") {
  PurgeState state;
  PurgeInput in = holding(300 * kMiB, 300 * kMiB);
  CHECK_FALSE(descent_due(state, in));
  in.usage_bytes = 100 * kMiB;
  in.held_bytes = in.counted_bytes = 101 * kMiB;
  CHECK_FALSE(descent_due(state, in));
  in.held_bytes = in.counted_bytes = 300 * kMiB;
  in.limit_bytes = 0;
  CHECK_FALSE(descent_due(state, in));
  in.limit_bytes = kLimit;
  CHECK(descent_due(state, in));
}
