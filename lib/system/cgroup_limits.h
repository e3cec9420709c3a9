/* What the files of a memory group say: the tightest limit from the group up to the mount point, and the working
 * set that answers to it.
 *
 * Answers for: files that are missing, unreadable or malformed give no limit and say so; physical memory is the last
 * resort. Refuses to search for the group (cgroup_place.h) and to remember what it read before (cgroup.h).
 * Threads: any, also inside malloc; about 4 KiB of stack, errno is kept.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "system/cgroup_place.h"

namespace memlimit {

/** Which file decided the limit. */
enum class LimitFile : uint8_t {
  kNone,     /* not even physical memory is known */
  kPhysical, /* MemTotal: no group sets a tighter limit */
  kV1Limit,  /* memory.limit_in_bytes of the group or an ancestor */
  kV1Stat,   /* hierarchical_memory_limit in memory.stat: an ancestor that is not visible here */
  kV2Max,    /* memory.max */
  kV2High,   /* memory.high */
};

namespace cgroup {

/** What to append to a group's directory; "/proc/meminfo" for kPhysical, "" for kNone. */
const char* file_name(LimitFile file) noexcept;

/** The limit found, and what stood in the way. The lengths are of prefixes of Place::directory. */
struct Limits {
  int64_t bytes = -1;
  uint16_t length = 0;         /* the directory up to here holds the file that decided */
  uint16_t watch_length = 0;   /* up to here: the usage that answers to it; 0: none */
  uint16_t problem_length = 0; /* up to here: problem_file */
  LimitFile file = LimitFile::kNone, problem_file = LimitFile::kNone;
  GroupProblem problem = GroupProblem::kNone;
};

Limits read_limits(const Place& place) noexcept;

/** Usage less inactive file pages of the group at that prefix (0: of none), in bytes; -1 when unknown. */
int64_t read_working_set(const Place& place, size_t watch_length) noexcept;

}  // namespace cgroup
}  // namespace memlimit
