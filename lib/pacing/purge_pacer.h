/* When the allocator's idle pages go back to the kernel. Pure: numbers in, a decision out.
 *
 * Giving a page back costs a system call, and a page fault when the program takes it again. So idle pages
 * are left alone while there is room for them; from there on giving back may cost a share of what the
 * program allocates, and past the slack whatever it takes.
 * Refuses: clocks, atomics, locks, I/O. Threads: any, one at a time for one state.
 */
#pragma once

#include <cstdint>

#include "pacing/pacer.h"

namespace memlimit {

/** How far idle pages may carry the footprint past the limit: a 40th of it, of which a peak RSS of 1.05 of
 *  the limit leaves room for code and stacks. In a container at most a quarter of the room that the limit
 *  leaves there. Measured, a cache at 256 MiB filled by two threads: without slack 60 % of the throughput
 *  of one with a hand-set size, with it as much. */
inline constexpr int64_t kSlackDivisor = 40;
inline constexpr int64_t kSlackRoomDivisor = 4;

/** Within the slack a purge comes when at least this many times what the last one gave has been allocated,
 *  less the further the slack is used up: a page fault takes as long as filling some pages. Measured, the
 *  same cache filled by four threads: 16 takes 2.2 % of the CPU time, 32 1.2 %, 64 0.8 %, all with a peak
 *  RSS of 1.04 of the limit and the same throughput. */
inline constexpr int64_t kPurgePrice = 64;

/** Idle bytes that are worth a purge: more than blurs the figures. */
inline constexpr int64_t kPurgeMinBytes = int64_t{1} << 20;
inline constexpr int64_t kPurgeLimitDivisor = 64;

/** Below the limit there must be more of them: this part of it. What is there for a cache to grow into costs nothing. */
inline constexpr int64_t kPurgeBelowDivisor = 16;

/** Usage that breathes takes again what it gives back. Idle is what lies above the highest usage since the program took
 *  this part of the limit, or at most twice as much. Measured, a cache at 256 MiB, where usage falls by 3 MiB in each
 *  round: 80 purges in 5 s, half a second of them, all of it taken again. */
inline constexpr int64_t kBreathDivisor = 8;

/** Below the limit from 7/8 on: not more often than this; twice as long after each in vain, of which the program took all
 *  again. */
inline constexpr int64_t kPurgeGapMinNs = 50'000'000;
inline constexpr int64_t kPurgeGapMaxNs = 5'000'000'000;

/** Past the limit: not more often than this, for a collection takes some 50 microseconds a thread; twice as
 *  long after each that gave nothing, since what is left then lies between blocks in use. Until more is idle
 *  than there was. */
inline constexpr int64_t kPressedPurgeGapMinNs = 5'000'000;
inline constexpr int64_t kPressedPurgeGapMaxNs = 5'000'000'000;

/** On the way down: once usage has fallen this part of the limit below where it was, what became idle is purged, for the
 *  program may be about to sleep. Each time that what was given back is taken again it must fall twice as far, up to this
 *  many doublings; and idle pages of a process that holds little matter to nobody. */
inline constexpr int64_t kDescentDivisor = 16;
inline constexpr int kDescentMaxDoublings = 10;
inline constexpr int64_t kDescentHeldDivisor = 4;

/** What the caller measured, bytes. */
struct PurgeInput {
  int64_t limit_bytes = 0;     /* 0: none, and no purge is due */
  int64_t usage_bytes = 0;     /* of the process */
  int64_t held_bytes = 0;      /* of the process, idle pages and all */
  int64_t counted_bytes = 0;   /* held, and what others of the group hold */
  int64_t slack_bytes = 0;     /* from slack_for() */
  int64_t allocated_bytes = 0; /* ever */
  int64_t purged_bytes = 0;    /* given back by purges, ever */
  int64_t ended = 0;           /* purges that came to their end, ever */
};

struct PurgeState {
  int64_t gap_ns = kPurgeGapMinNs;
  int64_t pressed_gap_ns = kPressedPurgeGapMinNs;
  int64_t last_ns = 0;
  int64_t last_allocated_bytes = 0;
  int64_t last_purged_bytes = 0;
  int64_t last_idle_bytes = 0;
  int64_t ended_before =
      -1; /* purges that had ended when one was due past the slack; negative: none is */
  bool started = false;
  int64_t breath_began_bytes = 0;             /* allocated, when the last stretch began */
  int64_t breath_bytes = 0, before_bytes = 0; /* highest usage in it, and in the one before */
  int64_t highest_bytes = 0;                  /* usage, since the last purge on the way down */
  int64_t descended_bytes = 0;                /* usage at that purge, until it is taken again */
  int descent_doublings = 0;
};

/** room_bytes: what the limit leaves of the container's memory; negative: there is no container. */
int64_t slack_for(int64_t limit_bytes, int64_t room_bytes) noexcept;

/** Whether there is enough to give back at all. */
bool idle_is_worth(const PurgeInput& in) noexcept;

/** Whether the slack is used up. */
bool past_slack(const PurgeInput& in) noexcept;

/** At each look, before the others are asked. */
void note_usage(PurgeState& state, const PurgeInput& in) noexcept;

/** The highest usage of late (kBreathDivisor). */
int64_t highest_usage(const PurgeState& state) noexcept;

/** Cheap; whether purge_due() is worth asking. */
bool purge_worthwhile(const PurgeState& state, const PurgeInput& in) noexcept;

/** Whether to purge now; if so, notes that it was done. */
bool purge_due(PurgeState& state, const PurgeInput& in, int64_t now_ns) noexcept;

/** Whether to purge on the way down, whatever the others say; if so, notes that it was done. At each look. */
bool descent_due(PurgeState& state, const PurgeInput& in) noexcept;

/** Whether a purge that came to its end has not brought idle pages back within the slack. Only then are hooks asked to
 *  make up for them. Ask after purge_due(), with the same input. */
bool purges_in_vain(PurgeState& state, const PurgeInput& in) noexcept;

}  // namespace memlimit
