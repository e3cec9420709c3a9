/* Snapshot -> text, one function a file of the statistics socket, into the caller's buffer.
 *
 * Answers for: the exact shape of every file that people and programs read; shapes only ever grow.
 * Refuses everything impure: no clock, no system call, no allocation, no locale.
 * Threads: any; nothing is shared.
 */
#pragma once

#include <cstddef>

#include "observe/request.h"
#include "observe/stats.h"

namespace memlimit {

/** Room that every file fits into, with all hook slots taken and every number at its largest. */
inline constexpr size_t kMaxTextBytes = size_t{128} << 10;

/**
 * Renders a file of the socket, NUL-terminated; whole lines only when cap (bytes) is too small.
 * kConfig and kHeap are not made from a Snapshot: they give 0. kEvents gives the first line of the stream,
 * which tells the state that the events then change. Returns the length without the NUL.
 */
size_t render_file(StatsFile file, const Snapshot& snapshot, char* buffer, size_t cap) noexcept;

/** Whether a file shows nothing of a Snapshot but its figures. */
constexpr bool shows_figures_only(StatsFile file) noexcept {
  return file == StatsFile::kStat || file == StatsFile::kLimit || file == StatsFile::kEvents ||
         file == StatsFile::kList;
}

/** render_file() for such a file, without the 10 KiB of a Snapshot; any other gives 0. */
size_t render_figures(StatsFile file, const memlimit_stats& figures, char* buffer,
                      size_t cap) noexcept;

}  // namespace memlimit
