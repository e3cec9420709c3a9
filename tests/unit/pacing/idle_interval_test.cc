/* How often a sleeping process looks at its group: fast while it moves, once in two minutes while it does not. */
#include "pacing/idle_interval.h"

#include <algorithm>
#include <cstdint>

#include <catch2/catch.hpp>

using namespace memlimit;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kContainer = 4096 * kMiB;
constexpr int64_t kLimit = kContainer / 5 * 4;

GroupSight sight(int64_t used, Level level) { return {used, kLimit, kContainer, level, 0}; }

/* Looks in `seconds` at a group whose usage is used_at(time in ns). */
template <class UsedAt>
int looks_in(int64_t seconds, Level level, UsedAt used_at) {
  GroupWatch watch;
  int looks = 0;
  for (int64_t ns = 0; ns < seconds * kSecond;
       ns += next_look_ns(watch, sight(used_at(ns), level))) {
    ++looks;
  }
  return looks;
}

}  // namespace

TEST_CASE("idle: a group that rests is looked at once in two minutes, below the limit and above",
          "[idle]") {
  const auto rests = [](int64_t) { return kContainer / 10 * 9; };
  for (const Level level : {Level::kLow, Level::kModerate, Level::kOver}) {
    CHECK(looks_in(60, level, rests) <= 6);
    const int first_minutes = looks_in(240, level, rests);
    CHECK(looks_in(240 + 3600, level, rests) - first_minutes <= 30);
  }
}

TEST_CASE("idle: what processors keep in stock is no movement, however full the group is",
          "[idle]") {
  const auto flickers = [](int64_t ns) { return kContainer - (ns / 1000 % 7) * 128 * 1024; };
  CHECK(looks_in(3600, Level::kOver, flickers) <= 7 + 30);
}

TEST_CASE("idle: a process with a hook looks the more often the more it holds", "[idle]") {
  GroupWatch watch;
  const auto settled = [&](int64_t can_give) {
    GroupSight giver = sight(kContainer / 10 * 9, Level::kOver);
    giver.can_give_bytes = can_give;
    int64_t interval = 0;
    for (int i = 0; i < 20; ++i) interval = next_look_ns(watch, giver);
    return interval;
  };
  CHECK(settled(kContainer) == 5 * kSecond);
  CHECK(settled(kContainer / 2) == 10 * kSecond);
  CHECK(settled(1) == 120 * kSecond);
  // However many share a container, all of them together look as often as one, and once in two minutes each.
  for (const int processes : {1, 3, 12, 100}) {
    const auto looks_a_minute =
        60.0 * kSecond / static_cast<double>(settled(kContainer / processes));
    CHECK(looks_a_minute * processes <= 12.01 + 0.5 * processes);
  }
}

TEST_CASE("idle: a group that fills within seconds is looked at every 100 ms", "[idle]") {
  // From half full to full in three seconds.
  const auto fills = [](int64_t ns) {
    return kContainer / 2 + kContainer / 2 * (ns / 1000) / 3'000'000;
  };
  CHECK(looks_in(3, Level::kModerate, fills) >= 29);
}

TEST_CASE("idle: whatever the speed, little of the room goes between two looks", "[idle]") {
  for (const int64_t mib_a_second : {1, 10, 100}) {
    GroupWatch watch;
    int64_t ns = 0, used = kContainer / 2;
    while (used < kContainer / 10 * 9) {
      ns += next_look_ns(watch, sight(used, Level::kModerate));
      const int64_t now_used = kContainer / 2 + mib_a_second * kMiB * (ns / 1'000'000) / 1000;
      const int64_t room = kContainer - used;
      // Not noticed once, and then for four times as long.
      CHECK(now_used - used <= room / 16 + mib_a_second * kMiB / 5);
      used = now_used;
    }
  }
}

TEST_CASE("idle: any change brings the short interval back", "[idle]") {
  const GroupSight rest = sight(kContainer / 2, Level::kModerate);
  GroupSight other = rest;
  SECTION("usage that rises") { other.used_bytes += 128 * kMiB; }
  SECTION("usage that falls") { other.used_bytes -= 128 * kMiB; }
  SECTION("the limit") { other.limit_bytes -= 1; }
  SECTION("the container's size") { other.container_bytes += 4096; }
  SECTION("the level") { other.level = Level::kOver; }
  GroupWatch watch;
  for (int i = 0; i < 20; ++i) next_look_ns(watch, rest);
  REQUIRE(watch.interval_ns == 120 * kSecond);
  CHECK(next_look_ns(watch, other) == kGroupPressedNs);
  CHECK(next_look_ns(watch, other) == kGrowthOfInterval * kGroupPressedNs);
}

TEST_CASE("idle: where usage does not count, only the limit's file is followed", "[idle]") {
  GroupWatch watch;
  const GroupSight blind{-1, kLimit, kContainer, Level::kOver, 0};
  CHECK(next_look_ns(watch, blind) == 5 * kSecond);
  CHECK(next_look_ns(watch, blind) == 20 * kSecond);
  for (int i = 0; i < 5; ++i) next_look_ns(watch, blind);
  CHECK(watch.interval_ns == 120 * kSecond);
  GroupSight resized = blind;
  resized.container_bytes /= 2;
  CHECK(next_look_ns(watch, resized) == 5 * kSecond);
}

TEST_CASE("idle: figures at the ends of their range make no interval of none", "[idle]") {
  for (const int64_t used : {INT64_MIN, int64_t{-1}, int64_t{0}, INT64_MAX}) {
    for (const int64_t container : {INT64_MIN, int64_t{0}, INT64_MAX}) {
      GroupWatch watch;
      for (const int64_t before : {int64_t{0}, used}) {
        next_look_ns(watch, {before, 0, container, Level::kLow, 0});
        CHECK(next_look_ns(watch, {used, INT64_MAX, container, Level::kLow, used}) >= kSecond);
      }
    }
  }
}

TEST_CASE("idle: a thread that nobody calls sleeps twice as long as it was left alone", "[idle]") {
  CHECK(longest_sleep_ns(-1) == 5 * kSecond);
  CHECK(longest_sleep_ns(0) == 5 * kSecond);
  CHECK(longest_sleep_ns(20 * kSecond) == 40 * kSecond);
  CHECK(longest_sleep_ns(INT64_MAX) == 120 * kSecond);
  int wakes = 0;
  for (int64_t quiet = 0; quiet < 3600 * kSecond; quiet += longest_sleep_ns(quiet)) ++wakes;
  CHECK(wakes <= 35);
}
