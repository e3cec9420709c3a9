/* Where this process's memory group is: the directory whose files limit it, and those of its ancestors above it.
 *
 * Answers for: finding that directory in v1, v2 and hybrid systems, in namespaces and under bind mounts, and for
 * the reason when it cannot be found. Refuses to read a limit (cgroup_limits.h), to allocate and to wait.
 * Threads: a Place belongs to one thread while it is written. About 8 KiB of stack; errno is kept.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace memlimit {

/** Why the limit may not be the one that the kernel enforces. Not `kNone`: worth a line in the log.
 */
enum class GroupProblem : uint8_t {
  kNone,
  kNoMembership, /* /proc/self/cgroup is missing, unreadable or malformed */
  kNoController, /* the kernel runs no memory controller for this process */
  kNoMount,      /* there is one, but its file system is not mounted here */
  kOutside,      /* it is mounted, but the process's own group lies outside what the mount shows */
  kTooLong,      /* the group's path is longer than kMaxGroupPath */
  kUnreadable,   /* a limit is set by a file that could not be read */
  kMalformed,    /* a limit file holds no number and not "max", or a number that cannot be */
};

/** A sentence for the log, static storage. */
const char* problem_text(GroupProblem problem) noexcept;

/** The longest directory of a group that is handled, bytes. */
inline constexpr size_t kMaxGroupPath = 2048;

namespace cgroup {

/** The process's own line of /proc/self/cgroup. */
struct OwnGroup {
  char path[kMaxGroupPath];
  size_t path_length = 0;
  bool v2 = false;
  GroupProblem problem = GroupProblem::kNoMembership;

  std::string_view view() const noexcept { return {path, path_length}; }

  /** Tells one group from another without keeping the path; 0: unknown. */
  uint64_t id() const noexcept;

  void read(const char* file) noexcept;
};

/** The group's directory. The lengths are of prefixes of `directory`, each of which is a group's, too. */
struct Place {
  uint64_t membership = 0; /* OwnGroup::id() of the group that was located */
  uint16_t root_length = 0;
  uint16_t top_length = 0; /* the mount point */
  uint16_t length = 0;     /* the process's own group; 0: not found */
  bool v2 = false;
  GroupProblem problem = GroupProblem::kNone;
  char directory[kMaxGroupPath] = {};

  /** What is put before every path, cut at 400 bytes. */
  void set_root(const char* root) noexcept;
  std::string_view root() const noexcept { return {directory, root_length}; }

  void read_own_group(OwnGroup* own) const noexcept;

  /** Finds the directory of `own` among the mounts. */
  void locate(const OwnGroup& own) noexcept;

  /** Writes the first `prefix` bytes of the directory and `name`; the path's length, or 0 and "" when it does
   *  not fit. */
  size_t file(size_t prefix, const char* name, char* out, size_t cap) const noexcept;

  /** The same without `root`, as the process sees it. */
  size_t shown(size_t prefix, const char* name, char* out, size_t cap) const noexcept;

  /** The same of a file that is not a group's: `root` and `path`. */
  size_t outside(const char* path, char* out, size_t cap) const noexcept;

  /** From a group's directory up to the one above it, not beyond the mount point. */
  size_t parent(size_t prefix) const noexcept;
};

}  // namespace cgroup
}  // namespace memlimit
