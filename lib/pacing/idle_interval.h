/* How long a process that does nothing may sleep: until it looks at its memory group again, and at its own descriptors.
 *
 * Answers for: short intervals while anything moves, four times as long each time that nothing has, and a bound that follows from
 * what a process could still do for the others. Refuses: clocks, atomics, files, I/O. Numbers in, a duration out.
 * Threads: any, one at a time for one GroupWatch.
 *
 * No kernel tells unprivileged processes of a group's usage before the group is full. So it is read: a hundred sleeping
 * processes of one container are a hundred readers, and each reading costs a wake-up.
 */
#pragma once

#include <cstdint>

#include "pacing/pacer.h"

namespace memlimit {

/** The shortest interval: from the level moderate on, below it, and where the group's usage does not count, so that only
 *  its limit is followed. A reading takes 25 microseconds; 100 ms of one process's page faults are some 200 MiB. */
inline constexpr int64_t kGroupPressedNs = 100'000'000;
inline constexpr int64_t kGroupCalmNs = 1'000'000'000;
inline constexpr int64_t kGroupLimitNs = 5'000'000'000;

/** The longest: of a process with nothing to give while its program sleeps, which is most of them. What it would see is a limit
 *  for which it has no use yet: it looks again when its program works, and before it answers a client. On a virtual machine a
 *  wake-up of a process that has slept so long took 1.5 ms, most of it the kernel's: a hundred of them in two minutes are 0.12 %
 *  of a core. One with a hook may give a neighbour that begins to fill the group what it holds: it looks as many times as often
 *  as it is large, so that all together do so at most every 5 seconds. A process that is half of its container looks every 10. */
inline constexpr int64_t kGroupIdleNs = 120'000'000'000;
inline constexpr int64_t kGroupGiverNs = 5'000'000'000;

/** Usage has moved when it did by this share of the room that is left until the kernel kills, and by this share of the
 *  container's memory and so many bytes: processors keep some of a group's pages in stock, and whoever looks touches a few. */
inline constexpr int64_t kMovedRoomDivisor = 64;
inline constexpr int64_t kMovedContainerDivisor = 1024;
inline constexpr int64_t kMovedMinBytes = int64_t{1} << 20;

/** How many times as long the next interval is when nothing has moved. At a steady speed a sixteenth of the room goes between
 *  two looks at most; twice as long would be twice as many wake-ups in a process's first minute. */
inline constexpr int64_t kGrowthOfInterval = 4;

/** What a look saw of the group. Bytes. */
struct GroupSight {
  int64_t used_bytes = -1; /* its working set; negative: it does not count, or cannot be read */
  int64_t limit_bytes = 0;
  int64_t container_bytes = -1; /* where the kernel kills; negative: unknown */
  Level level = Level::kLow;
  int64_t can_give_bytes = 0; /* what the process holds, if it has a hook; else 0 */
};

/** Plain data; value-initialise to begin. */
struct GroupWatch {
  GroupSight last;
  int64_t interval_ns = 0; /* 0: nobody has looked yet */
};

/** Whether it is another picture than at the last look. */
bool has_moved(const GroupSight& last, const GroupSight& now) noexcept;

/** How long until the next look, after this one: the shortest interval when something has moved, else kGrowthOfInterval times
 *  the last. */
int64_t next_look_ns(GroupWatch& watch, const GroupSight& now) noexcept;

/** The longest sleep without a reason, of a thread that nobody has called for so long: no longer than twice that, from 5
 *  seconds to two minutes. A program that closes its descriptors has as a rule just done something. */
inline constexpr int64_t kSleepMinNs = 5'000'000'000;
inline constexpr int64_t kSleepMaxNs = 120'000'000'000;
int64_t longest_sleep_ns(int64_t quiet_ns) noexcept;

}  // namespace memlimit
