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

/** Below the limit from 7/8 on: not more often than this; twice as long after each that gave nothing. */
inline constexpr int64_t kPurgeGapMinNs = 50'000'000;
inline constexpr int64_t kPurgeGapMaxNs = 5'000'000'000;

/** Past the limit: not more often than this, for a collection takes some 50 microseconds a thread; twice as
 *  long after each that gave nothing, since what is left then lies between blocks in use. Until more is idle
 *  than there was. */
inline constexpr int64_t kPressedPurgeGapMinNs = 5'000'000;
inline constexpr int64_t kPressedPurgeGapMaxNs = 320'000'000;

/** A purge has its effect when each thread has looked up from its work, and on busy cores each waits for the others'
 *  time slices: this long for each of at most so many threads. Only then are hooks asked to make up for idle pages.
 *  Measured, a cache at 256 MiB filled by four threads on two cores, from 0 on: at 90 to 100 % of the limit for 94.3,
 *  99.8 (1 ms), 99.9 and 99.9 % (5 ms) of the time, peak usage 1.02, 1.01, 1.00 and 1.01 of it, the same peak RSS. */
inline constexpr int64_t kPurgePatienceNs = 2'000'000;
inline constexpr int64_t kPurgePatienceMaxThreads = 16;

/** A thread that has freed this much more than it allocated (or so much of its share of the limit, or of what it
 *  still holds, if that is more) collects its own heap: nobody else can, and it may be about to sleep. What it holds
 *  is looked at page by page. Each time that what it gave back is taken again it waits for twice as much, up to this
 *  many doublings. Measured, 32 threads that hoard in a group of 256 MiB: 166 MiB at most, where each has a share,
 *  and 246 where each has it all. */
inline constexpr int64_t kHoardMinBytes = int64_t{512} << 10;
inline constexpr int64_t kHoardLimitDivisor = 128;
inline constexpr int64_t kHoardHeldDivisor = 16;
inline constexpr int kHoardMaxDoublings = 10;

/** What threads hoard matters from half of the limit on, and on the way down from there, until the program has taken
 *  this part of the limit again. Measured, four threads that free 550 MiB at a limit of 256 MiB and then sleep keep
 *  12 MiB; 41 where it ended at half of the limit. */
inline constexpr int64_t kDescentDivisor = 8;

/** What the caller measured, bytes. */
struct PurgeInput {
  int64_t limit_bytes = 0;     /* 0: none, and no purge is due */
  int64_t usage_bytes = 0;     /* of the process */
  int64_t held_bytes = 0;      /* of the process, idle pages and all */
  int64_t counted_bytes = 0;   /* held, and what others of the group hold */
  int64_t slack_bytes = 0;     /* from slack_for() */
  int64_t allocated_bytes = 0; /* ever */
  int64_t purged_bytes = 0;    /* given back by purges, ever */
  int64_t threads = 1;         /* that have allocated */
};

struct PurgeState {
  int64_t gap_ns = kPurgeGapMinNs;
  int64_t pressed_gap_ns = kPressedPurgeGapMinNs;
  int64_t last_ns = 0;
  int64_t last_allocated_bytes = 0;
  int64_t last_purged_bytes = 0;
  int64_t last_idle_bytes = 0;
  int64_t past_slack_since_ns = -1; /* when the first purge was due since it is used up */
  bool started = false;
};

/** room_bytes: what the limit leaves of the container's memory; negative: there is no container. */
int64_t slack_for(int64_t limit_bytes, int64_t room_bytes) noexcept;

/** How eagerly the allocator is to give pages back by itself: kModerate (its own delays), kCritical (soon:
 *  idle pages are past the limit), kOver (at once: past the slack). */
Level purge_eagerness(const PurgeInput& in) noexcept;

/** Cheap; whether purge_due() is worth asking. */
bool purge_worthwhile(const PurgeInput& in) noexcept;

/** Whether to purge now; if so, notes that it was done. */
bool purge_due(PurgeState& state, const PurgeInput& in, int64_t now_ns) noexcept;

/** Whether purges have not brought idle pages back within the slack, though every thread had its time. Ask after
 *  purge_due(), with the same input. */
bool purges_in_vain(PurgeState& state, const PurgeInput& in, int64_t now_ns) noexcept;

/** A purge is through and gave this much: the back-off ends when that was worth it. */
void purge_gave(PurgeState& state, int64_t limit_bytes, int64_t given_bytes) noexcept;

/** One thread's; value-initialise. */
struct HoardState {
  int64_t lowest_net_bytes = 0; /* freed less allocated, at its lowest since the last collection */
  int64_t collected_at_bytes = 0; /* allocated, at the last collection */
  int64_t given_bytes = 0;        /* by the last collection */
  int doublings = 0;
};

/** Whether what a thread hoards matters now. was_near_at_bytes: see near_limit(). */
bool hoards_matter(const PurgeInput& in, int64_t was_near_at_bytes) noexcept;

/** At least half of the limit is held. The caller keeps what was allocated when it last was. */
bool near_limit(const PurgeInput& in) noexcept;

/** Whether the thread, which has allocated and freed so much so far, is to collect its heap now. The limit: the
 *  thread's share of it; usage: the process's. */
bool hoard_due(HoardState& state, int64_t limit_bytes, int64_t usage_bytes, int64_t allocated_bytes,
               int64_t freed_bytes) noexcept;

/** It was collected for another reason. */
void hoard_emptied(HoardState& state, int64_t allocated_bytes, int64_t freed_bytes) noexcept;

/** It has, and gave so much back. */
void hoard_collected(HoardState& state, int64_t allocated_bytes, int64_t freed_bytes,
                     int64_t given_bytes) noexcept;

}  // namespace memlimit
