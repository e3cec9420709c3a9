/* How soon to look at memory that a process touches without a call: soon while it works, rarely while it rests, and never
 * where the limit cannot be passed that way. */
#include "pacing/touch_interval.h"

#include <algorithm>
#include <cstdint>

#include <catch2/catch.hpp>

using namespace memlimit;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kLimit = 512 * kMiB;

TouchSight sight(int64_t footprint, int64_t untouched) {
  TouchSight sight;
  sight.footprint_bytes = footprint;
  sight.untouched_bytes = untouched;
  sight.limit_bytes = kLimit;
  sight.headroom_bytes = kLimit - footprint;
  return sight;
}

/* A process that uses `cpu_share` of a processor for so long; how often it is looked at. */
int looks_in(int64_t seconds, TouchSight now, double cpu_share) {
  TouchWatch watch;
  int looks = 0;
  while (now.now_ns < seconds * kSecond) {
    const int64_t interval = next_touch_look_ns(watch, now);
    if (interval == INT64_MAX) return looks;
    ++looks;
    now.now_ns += interval;
    now.cpu_ns += static_cast<int64_t>(static_cast<double>(interval) * cpu_share);
  }
  return looks;
}

}  // namespace

TEST_CASE("touch: nobody looks where the limit cannot be passed without a call", "[touch]") {
  TouchWatch watch;
  CHECK(next_touch_look_ns(watch, sight(100 * kMiB, 100 * kMiB)) == INT64_MAX);
  CHECK(next_touch_look_ns(watch, sight(100 * kMiB, -1)) == INT64_MAX);
  CHECK(next_touch_look_ns(watch, sight(100 * kMiB, 500 * kMiB)) < INT64_MAX);
  // Stacks and the allocator's reserve are not worth it, at the limit either.
  CHECK(next_touch_look_ns(watch, sight(kLimit, kLimit / kTouchLimitDivisor - 1)) == INT64_MAX);
  CHECK(next_touch_look_ns(watch, sight(kLimit, kLimit / kTouchLimitDivisor)) < INT64_MAX);
  CHECK(next_touch_look_ns(watch, sight(2 * kLimit, kLimit / kTouchLimitDivisor)) < INT64_MAX);
  TouchSight off = sight(100 * kMiB, 500 * kMiB);
  off.limit_bytes = 0;
  off.grows_unseen = true;
  CHECK(next_touch_look_ns(watch, off) == INT64_MAX);
}

TEST_CASE("touch: a runtime that grows unseen is looked at whatever the figures say", "[touch]") {
  TouchWatch watch;
  TouchSight shared = sight(100 * kMiB, -1);
  shared.grows_unseen = true;
  CHECK(next_touch_look_ns(watch, shared) < INT64_MAX);
}

TEST_CASE("touch: at most a quarter of the headroom is filled between two looks of one that works",
          "[touch]") {
  for (int64_t footprint = 0; footprint <= 2 * kLimit; footprint += kMiB + 1) {
    TouchWatch watch;
    TouchSight now = sight(footprint, 4 * kLimit);
    now.grows_unseen = footprint % 2 == 0;
    const int64_t shortest = now.grows_unseen ? kTouchRuntimeShortestNs : kTouchShortestNs;
    int64_t interval = next_touch_look_ns(watch, now);
    for (int i = 0; i < 5; ++i) {
      now.now_ns += interval;
      now.cpu_ns += interval / 2;
      interval = next_touch_look_ns(watch, now);
    }
    CAPTURE(footprint);
    CHECK(interval >= shortest);
    if (interval == shortest) continue;
    const double filled = static_cast<double>(interval) * kTouchBytesPerSecond / kSecond;
    CHECK(filled <= static_cast<double>(now.headroom_bytes) / 4);
  }
}

TEST_CASE("touch: whoever rests is looked at once in two minutes", "[touch]") {
  const TouchSight full = sight(kLimit, kLimit);
  CHECK(looks_in(60, full, 0) <= 8);
  CHECK(looks_in(3600 + 60, full, 0) <= 8 + 30);
}

TEST_CASE("touch: a runtime that rests is looked at before its heap can fill the headroom",
          "[touch]") {
  for (const int64_t headroom : {int64_t{0}, 50 * kMiB, 200 * kMiB, 500 * kMiB, 4096 * kMiB}) {
    TouchSight runtime = sight(kLimit, kLimit);
    runtime.grows_unseen = true;
    runtime.headroom_bytes = headroom;
    const double fills_s = static_cast<double>(headroom) / kTouchBytesPerSecond;
    const double interval_s = std::clamp(fills_s, 0.25, 1.0);
    CAPTURE(headroom);
    CHECK(looks_in(60, runtime, 0.005) <= 60 / interval_s + 6);
    CHECK(looks_in(60, runtime, 0.005) >= 60 / interval_s);
  }
}

TEST_CASE("touch: work, growth and another limit bring the short interval back", "[touch]") {
  const auto settled = [](TouchWatch& watch, TouchSight& now) {
    for (int i = 0; i < 12; ++i) now.now_ns += next_touch_look_ns(watch, now);
    return next_touch_look_ns(watch, now);
  };
  {
    TouchWatch watch;
    TouchSight now = sight(kLimit, kLimit);
    const int64_t rest = settled(watch, now);
    CHECK(rest == kTouchLongestNs);
    now.now_ns += rest;
    now.cpu_ns += rest / 32;
    CHECK(next_touch_look_ns(watch, now) == kTouchShortestNs);
  }
  {
    TouchWatch watch;
    TouchSight now = sight(kLimit, kLimit);
    now.now_ns += settled(watch, now);
    now.footprint_bytes += kLimit / 128;
    CHECK(next_touch_look_ns(watch, now) == kTouchShortestNs);
  }
  {
    TouchWatch watch;
    TouchSight now = sight(kLimit, kLimit);
    now.now_ns += settled(watch, now);
    now.limit_bytes -= kMiB;
    CHECK(next_touch_look_ns(watch, now) == kTouchShortestNs);
  }
}
