/* Snapshot -> text, one function a file of the statistics socket, into the caller's buffer.
 *
 * Answers for: the exact shape of every file that people and programs read; shapes only ever grow.
 * Refuses everything impure: no clock, no system call, no allocation, no locale.
 * Threads: any; nothing is shared.
 */
#pragma once

#include <cstddef>

#include "request.h"
#include "stats.h"

namespace memlimit {

/** Room that every file fits into, with all hook slots taken and every number at its largest. */
inline constexpr size_t kMaxTextBytes = size_t{128} << 10;

/**
 * Renders a file of the socket, NUL-terminated; whole lines only when cap (bytes) is too small.
 * kConfig is not made from a Snapshot: it gives 0. kEvents gives the first line of the stream,
 * which tells the state that the events then change. Returns the length without the NUL.
 */
size_t render_file(StatsFile file, const Snapshot& snapshot, char* buffer, size_t cap) noexcept;

}  // namespace memlimit
