/* When idle pages are given back: never without need, at a price while there is room, at once past it. */
#include "pacing/purge_pacer.h"

#include <catch2/catch.hpp>

using memlimit::Level;
using memlimit::purge_due;
using memlimit::purge_eagerness;
using memlimit::purge_gave;
using memlimit::PurgeInput;
using memlimit::purges_in_vain;
using memlimit::PurgeState;
using memlimit::slack_for;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kLimit = 400 * kMiB;
constexpr int64_t kSlack = 10 * kMiB;
constexpr int64_t kMs = 1'000'000;
constexpr int64_t kUsage = int64_t{1} << 40; /* no bound on what a thread may hold */

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

/* How often a purge is due in a second, looking every millisecond; `rate` is allocated in each, and each
 * purge gives `given`. */
int purges_in_a_second(PurgeInput in, int64_t rate, int64_t given) {
  PurgeState state;
  int purges = 0;
  for (int64_t ms = 0; ms < 1000; ++ms) {
    in.allocated_bytes += rate;
    if (!purge_due(state, in, ms * kMs)) continue;
    ++purges;
    in.purged_bytes += given;
    purge_gave(state, in.limit_bytes, given);
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

TEST_CASE("purge pacer: the allocator is told to be eager past the limit only", "[purge]") {
  CHECK(purge_eagerness(holding(100 * kMiB, 399 * kMiB)) == Level::kModerate);
  CHECK(purge_eagerness(holding(390 * kMiB, 405 * kMiB)) == Level::kCritical);
  CHECK(purge_eagerness(holding(390 * kMiB, 411 * kMiB)) == Level::kOver);
  // Over the limit with live data there is nothing to be eager about.
  CHECK(purge_eagerness(holding(499 * kMiB, 500 * kMiB)) == Level::kModerate);
}

TEST_CASE("purge pacer: below the limit purges that give nothing back off", "[purge]") {
  const PurgeInput in = holding(300 * kMiB, 390 * kMiB);
  CHECK(purges_in_a_second(in, kMiB, 0) <= 6);
  CHECK(purges_in_a_second(in, kMiB, 20 * kMiB) == 20);
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
  CHECK(before == 200);
}

TEST_CASE("purge pacer: past the slack, purges that give nothing become rare", "[purge]") {
  const PurgeInput in = holding(380 * kMiB, kLimit + 12 * kMiB);
  CHECK(purges_in_a_second(in, 4 * kMiB, 0) <= 10);
  CHECK(purges_in_a_second(in, 4 * kMiB, 8 * kMiB) == 200);
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

TEST_CASE("purge pacer: a purge has time until every thread had its turn", "[purge]") {
  PurgeState state;
  PurgeInput in = holding(380 * kMiB, kLimit + 12 * kMiB);
  in.threads = 5;
  const auto in_vain_at = [&state, &in](int64_t now_ns) {
    purge_due(state, in, now_ns);
    return purges_in_vain(state, in, now_ns);
  };
  CHECK_FALSE(in_vain_at(100 * kMs));
  CHECK_FALSE(in_vain_at(100 * kMs + 5 * memlimit::kPurgePatienceNs - 1));
  CHECK(in_vain_at(100 * kMs + 5 * memlimit::kPurgePatienceNs));

  SECTION("and from the beginning when the footprint was back within the slack") {
    in.held_bytes = in.counted_bytes = kLimit + 9 * kMiB;
    CHECK_FALSE(in_vain_at(200 * kMs));
    in.held_bytes = in.counted_bytes = kLimit + 12 * kMiB;
    CHECK_FALSE(in_vain_at(300 * kMs));
    CHECK(in_vain_at(400 * kMs));
  }
  SECTION("and from the beginning when what is held was in use meanwhile") {
    in.usage_bytes = in.held_bytes;
    CHECK_FALSE(in_vain_at(200 * kMs));
    in.usage_bytes = 380 * kMiB;
    CHECK_FALSE(in_vain_at(300 * kMs));
    CHECK(in_vain_at(400 * kMs));
  }
  SECTION("but not longer the more threads there are") {
    in.held_bytes = in.counted_bytes = kLimit;
    CHECK_FALSE(in_vain_at(200 * kMs));
    in.held_bytes = in.counted_bytes = kLimit + 12 * kMiB;
    in.threads = 10'000;
    CHECK_FALSE(in_vain_at(300 * kMs));
    CHECK(in_vain_at(400 * kMs));
  }
}

TEST_CASE("purge pacer: within the slack no purge is in vain", "[purge]") {
  PurgeState state;
  const PurgeInput in = holding(380 * kMiB, kLimit + 9 * kMiB);
  for (int64_t ms = 0; ms < 1000; ++ms) {
    purge_due(state, in, ms * kMs);
    CHECK_FALSE(purges_in_vain(state, in, ms * kMs));
  }
}

TEST_CASE("purge pacer: a program that allocates nothing is purged by the clock alone", "[purge]") {
  CHECK(purges_in_a_second(holding(100 * kMiB, kLimit + kMiB), 0, 20 * kMiB) == 20);
}

TEST_CASE("purge pacer: a thread that frees much and then sleeps keeps little of it", "[purge]") {
  memlimit::HoardState state;
  const int64_t taken = 50 * kMiB;
  int64_t given = 0;
  CHECK_FALSE(memlimit::hoard_due(state, kLimit, kUsage, taken, 0));
  for (int64_t freed = 0; freed <= taken; freed += 64 << 10) {
    if (!memlimit::hoard_due(state, kLimit, kUsage, taken, freed)) continue;
    memlimit::hoard_collected(state, taken, freed, freed - given);
    given = freed;
  }
  CHECK(taken - given < kLimit / 64);
}

TEST_CASE("purge pacer: the more a thread holds, the seldomer it is looked through", "[purge]") {
  memlimit::HoardState state;
  const int64_t taken = 1000 * kMiB;
  memlimit::hoard_due(state, kLimit, kUsage, taken, 0);
  int collections = 0;
  for (int64_t freed = 0; freed <= taken; freed += 64 << 10) {
    if (!memlimit::hoard_due(state, kLimit, kUsage, taken, freed)) continue;
    ++collections;
    memlimit::hoard_collected(state, taken, freed, 100 * kMiB);
  }
  // 16 for each halving, down to what is worth it at all.
  CHECK(collections > 30);
  CHECK(collections < 130);
}

TEST_CASE("purge pacer: a thread whose blocks others free does not seem to hold them all",
          "[purge]") {
  memlimit::HoardState state;
  const int64_t taken = 100'000 * kMiB;
  memlimit::hoard_due(state, kLimit, 100 * kMiB, taken, 0);
  CHECK_FALSE(memlimit::hoard_due(state, kLimit, 100 * kMiB, taken, 6 * kMiB));
  CHECK(memlimit::hoard_due(state, kLimit, 100 * kMiB, taken, 7 * kMiB));
}

TEST_CASE("purge pacer: what was collected for another reason is hoarded no more", "[purge]") {
  memlimit::HoardState state;
  memlimit::hoard_due(state, kLimit, kUsage, 100 * kMiB, 0);
  REQUIRE(memlimit::hoard_due(state, kLimit, kUsage, 100 * kMiB, 50 * kMiB));
  memlimit::hoard_emptied(state, 100 * kMiB, 50 * kMiB);
  CHECK_FALSE(memlimit::hoard_due(state, kLimit, kUsage, 100 * kMiB, 50 * kMiB));
  CHECK(memlimit::hoard_due(state, kLimit, kUsage, 100 * kMiB, 60 * kMiB));
}

TEST_CASE("purge pacer: hoards matter near the limit, and on the way down from there", "[purge]") {
  memlimit::PurgeInput in = holding(kLimit / 4, kLimit / 4);
  in.allocated_bytes = kLimit;
  constexpr int64_t kNever = INT64_MIN / 2;
  CHECK_FALSE(memlimit::near_limit(in));
  CHECK_FALSE(memlimit::hoards_matter(in, kNever));
  in.counted_bytes = kLimit / 2;
  CHECK(memlimit::near_limit(in));
  CHECK(memlimit::hoards_matter(in, kNever));
  in.counted_bytes = kMiB;
  CHECK(memlimit::hoards_matter(in, kLimit));
  in.allocated_bytes += kLimit / 8;
  CHECK_FALSE(memlimit::hoards_matter(in, kLimit));
  in.limit_bytes = 0;
  CHECK_FALSE(memlimit::near_limit(in));
  CHECK_FALSE(memlimit::hoards_matter(in, in.allocated_bytes));
}

TEST_CASE("purge pacer: a thread that takes again what it gives back is left alone soon",
          "[purge]") {
  memlimit::HoardState state;
  int64_t allocated = 0;
  int64_t freed = 0;
  int collections = 0;
  constexpr int kTurns = 1000;
  for (int turn = 0; turn < kTurns; ++turn) {
    allocated += 10 * kMiB;
    memlimit::hoard_due(state, kLimit, kUsage, allocated, freed);
    freed += 10 * kMiB;
    if (!memlimit::hoard_due(state, kLimit, kUsage, allocated, freed)) continue;
    ++collections;
    memlimit::hoard_collected(state, allocated, freed, 10 * kMiB);
  }
  CHECK(collections < 5);
  // And one that frees other threads' blocks.
  state = {};
  collections = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    freed += kMiB;
    if (!memlimit::hoard_due(state, kLimit, kUsage, 0, freed)) continue;
    ++collections;
    memlimit::hoard_collected(state, 0, freed, 0);
  }
  CHECK(collections < 12);
}
