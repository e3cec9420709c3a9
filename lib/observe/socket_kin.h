/* Who has the path that MEMLIMIT_SOCKET names: a stranger, or a process that has the setting from where this one has it.
 *
 * Answers for: telling a wrapper (a shell, timeout, tini), which waits for the program that matters, from a program whose
 * helper this process is. Refuses to touch the socket. Reads /proc; threads: any; allocates nothing.
 */
#pragma once

#include <cstdint>

namespace memlimit {

enum class Kin : uint8_t {
  kStranger,
  kSibling,    /* of the same process group: another part of a pipeline, say */
  kDescendant, /* this process started it, or who started it */
  kAncestor,   /* the other way around */
  kWrapper,    /* an ancestor too small to have a socket unasked */
};

/** From this footprint on a process is no wrapper: about where one gets a socket unasked. */
inline constexpr int64_t kWrapperMaxBytes = int64_t{4} << 20;

Kin kin_of(int pid) noexcept;

}  // namespace memlimit
