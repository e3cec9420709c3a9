/* See idle_interval.h. */
#include "pacing/idle_interval.h"

#include <algorithm>

namespace memlimit {
namespace {

int64_t shortest_ns(const GroupSight& sight) noexcept {
  if (sight.used_bytes < 0) return kGroupLimitNs;
  return sight.level >= Level::kModerate ? kGroupPressedNs : kGroupCalmNs;
}

/* Where usage must not come to. */
int64_t end_bytes(const GroupSight& sight) noexcept {
  return sight.container_bytes > 0 ? sight.container_bytes : sight.limit_bytes;
}

/* In doubles: products of two sizes, or of one and a time, pass 2^63. */
int64_t longest_ns(const GroupSight& sight) noexcept {
  if (sight.can_give_bytes <= 0) return kGroupIdleNs;
  const double parts =
      static_cast<double>(end_bytes(sight)) / static_cast<double>(sight.can_give_bytes);
  const double ns = static_cast<double>(kGroupGiverNs) * parts;
  return static_cast<int64_t>(
      std::clamp(ns, static_cast<double>(kGroupGiverNs), static_cast<double>(kGroupIdleNs)));
}

int64_t noticed_bytes(const GroupSight& sight) noexcept {
  const int64_t end = end_bytes(sight);
  const int64_t room = end > sight.used_bytes ? end - sight.used_bytes : 0;
  return std::max({room / kMovedRoomDivisor, end / kMovedContainerDivisor, kMovedMinBytes});
}

}  // namespace

bool has_moved(const GroupSight& last, const GroupSight& now) noexcept {
  if (now.limit_bytes != last.limit_bytes || now.container_bytes != last.container_bytes ||
      now.level != last.level || (now.used_bytes < 0) != (last.used_bytes < 0)) {
    return true;
  }
  const int64_t moved = std::max(now.used_bytes, last.used_bytes) -
                        std::max<int64_t>(std::min(now.used_bytes, last.used_bytes), 0);
  return now.used_bytes >= 0 && moved > noticed_bytes(now);
}

int64_t next_look_ns(GroupWatch& watch, const GroupSight& now) noexcept {
  const bool moved = watch.interval_ns == 0 || has_moved(watch.last, now);
  const int64_t wished = moved ? 0 : watch.interval_ns * kGrowthOfInterval;
  watch.interval_ns = std::clamp(wished, shortest_ns(now), longest_ns(now));
  watch.last = now;
  return watch.interval_ns;
}

int64_t longest_sleep_ns(int64_t quiet_ns) noexcept {
  return std::clamp(quiet_ns, kSleepMinNs / 2, kSleepMaxNs / 2) * 2;
}

}  // namespace memlimit
