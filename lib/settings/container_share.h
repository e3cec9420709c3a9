/* What a percentage of the container comes to in bytes: MEMLIMIT=80%, MEMLIMIT=auto.
 *
 * Answers for: arithmetic that neither overflows nor rounds up, and what is too little for a program. Refuses to look at
 * the container: its memory comes as an argument (system/cgroup.h).
 * Pure: any thread, any context.
 */
#pragma once

#include <cstdint>

namespace memlimit {

/** A share below this is worth a word: the start of a program takes as much, and nothing is left for its heap. */
inline constexpr int64_t kLeastUsefulBytes = int64_t{4} << 20;

/** bytes * percent / 100 without overflow; percent of 0 or less gives 0. */
int64_t percent_of(int64_t bytes, int percent) noexcept;

/** The limit that `percent` of a container with `container_bytes` gives: exactly that, but at least 1, since 0 is no
 *  limit; 0 when the container's memory is unknown (<= 0). */
int64_t container_limit(int64_t container_bytes, int percent) noexcept;

}  // namespace memlimit
