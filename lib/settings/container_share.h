/* What a percentage of the container comes to in bytes: MEMLIMIT=80%, MEMLIMIT=auto.
 *
 * Answers for: arithmetic that neither overflows nor rounds up, and a floor under which a limit would leave
 * no heap. Refuses to look at the container: its memory comes as an argument (system/cgroup.h).
 * Pure: any thread, any context.
 */
#pragma once

#include <cstdint>

namespace memlimit {

/** Below this, a limit taken from the container would be all start-up and no heap. */
inline constexpr int64_t kLimitFloorBytes = int64_t{64} << 20;

/** bytes * percent / 100 without overflow; percent of 0 or less gives 0. */
int64_t percent_of(int64_t bytes, int percent) noexcept;

/** The limit that `percent` of a container with `container_bytes` gives: at least kLimitFloorBytes;
 *  0 (no limit) when the container's memory is unknown (<= 0). */
int64_t container_limit(int64_t container_bytes, int percent) noexcept;

}  // namespace memlimit
