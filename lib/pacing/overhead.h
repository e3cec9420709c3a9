/* What the process holds for its blocks beyond their bytes, and no purge brings back. Pure: numbers in, a number out.
 *
 * The allocator's pages cannot be divided without a rest, blocks in use keep free ones beside them, and the library and
 * the program have data of their own. The kernel counts all of it. Go takes what is not heap, and what the heap loses to
 * fragmentation, off its limit before it aims for it (runtime/mgcpacer.go, memoryLimitHeapGoal); so it is counted with
 * usage here, up to a share of the limit: a cache is not to be emptied for what other mappings hold.
 *
 * Idle pages come and go. What is never given back is what is there at the low points; and low points say something only
 * where idle pages are purged, from 7/8 of the limit on.
 *
 * Refuses: clocks, atomics, locks, I/O. Threads: any, one at a time for one state.
 */
#pragma once

#include <cstdint>

namespace memlimit {

/** At most this part of the limit counts: a cache at rest (96 %, pacer.h) then still fills 92 % of it. */
inline constexpr int64_t kOverheadMaxDivisor = 25;

/** The estimate falls by one of these steps at each reading that is lower, and rises by the other where it is higher: it
 *  comes to rest where a sixteenth of the readings is lower. The lowest alone would be a reading between two counters
 *  that are not changed at once. Measured, a cache at 256 MiB: nine of ten readings are 1.73 to 1.80 % of the limit with
 *  one thread, 1.96 to 2.13 with four, and the lowest of a few thousand 0.4 and -2.0. */
inline constexpr int64_t kOverheadFallDivisor = 1024;
inline constexpr int64_t kOverheadRiseDivisor = 16 * kOverheadFallDivisor;

/** What the caller measured, bytes. */
struct OverheadInput {
  int64_t limit_bytes = 0;  /* 0: none, and nothing counts */
  int64_t held_bytes = 0;   /* the footprint */
  int64_t beyond_bytes = 0; /* of it, beyond usage and what is kept for usage to rise into */
};

/** Value-initialise. */
struct OverheadState {
  bool started = false;
  int64_t bytes = 0; /* counted at the last reading */
};

/** Takes note of a reading of the footprint, and returns what is to be counted. Bytes; no errors; allocates nothing. */
int64_t overhead(OverheadState& state, const OverheadInput& in) noexcept;

}  // namespace memlimit
