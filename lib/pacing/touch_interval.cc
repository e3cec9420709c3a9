/* See touch_interval.h. */
#include "pacing/touch_interval.h"

#include <algorithm>
#include <cstdlib>

namespace memlimit {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

/* In doubles: bytes times nanoseconds pass 2^63. */
int64_t shortest_ns(const TouchSight& now) noexcept {
  const double quarter = static_cast<double>(std::max<int64_t>(now.headroom_bytes, 0)) / 4;
  const double ns = quarter * static_cast<double>(kNsPerSecond) / kTouchBytesPerSecond;
  const int64_t least_ns = now.grows_unseen ? kTouchRuntimeShortestNs : kTouchShortestNs;
  return static_cast<int64_t>(
      std::clamp(ns, static_cast<double>(least_ns), static_cast<double>(kTouchRuntimeNs)));
}

/* The heap of a runtime that rests may fill at once: before a look it takes no more than the headroom, or what fills in the
 * shortest rest. */
int64_t longest_ns(const TouchSight& now) noexcept {
  if (!now.grows_unseen) return kTouchLongestNs;
  return std::clamp(4 * shortest_ns(now), kTouchRuntimeRestNs, kTouchRuntimeNs);
}

bool rests(const TouchSight& last, const TouchSight& now) noexcept {
  const int64_t moved = std::abs(now.footprint_bytes - last.footprint_bytes);
  return now.limit_bytes == last.limit_bytes && moved <= now.limit_bytes / kTouchMovedDivisor &&
         now.cpu_ns - last.cpu_ns <= (now.now_ns - last.now_ns) / kTouchWorkDivisor;
}

}  // namespace

bool may_pass_unseen(const TouchSight& now) noexcept {
  if (now.limit_bytes <= 0) return false;
  if (now.grows_unseen) return true;
  return now.untouched_bytes > std::max<int64_t>(now.headroom_bytes, 0) &&
         now.untouched_bytes >= now.limit_bytes / kTouchLimitDivisor;
}

int64_t next_touch_look_ns(TouchWatch& watch, const TouchSight& now) noexcept {
  if (!may_pass_unseen(now)) {
    watch = {};
    return INT64_MAX;
  }
  const bool quiet = watch.interval_ns != 0 && rests(watch.last, now);
  watch.interval_ns = quiet ? std::min(watch.interval_ns * kTouchGrowth, longest_ns(now))
                            : std::min(shortest_ns(now), longest_ns(now));
  watch.last = now;
  return watch.interval_ns;
}

}  // namespace memlimit
