/* The memory of the container: which group this process is in, what limits it, how full it is.
 *
 * Answers for: the tightest limit of the process's memory group and all its ancestors that can be
 * seen (v1, v2, hybrid, namespaces, bind-mounted subtrees), physical memory as the last resort, and
 * the working set that answers to that limit. Refuses to log, to allocate and to fail: whatever the
 * files hold, the answer is a number and, in problem(), what stood in the way. Threads: find(),
 * refresh() and the descriptions belong to one thread at a time (start, then the service thread);
 * container_bytes() and working_set_bytes() may be called by any thread, also inside malloc. errno
 * is kept everywhere.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include "system/attributes.h"
#include "system/lock.h"

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

class MemoryGroup {
 public:
  constexpr MemoryGroup() noexcept = default;
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;

  /** Looks everything up from the beginning: membership, mounts, limits. `root` is put before every
   *  path (recorded trees in tests; at most 400 bytes). About 12 KiB of stack; reads all of
   * mountinfo. */
  void find(const char* root = "") noexcept;

  /** Looks again: the limits' files, and the whole of it when the process has been moved to another
   *  group. True when container_bytes() is another now. When files that were readable no longer are
   *  (descriptors exhausted, group gone), the old limit stays and problem() tells. */
  bool refresh() noexcept;

  /** The memory the container may use, in bytes; -1 before find() or when nothing at all is known.
   */
  int64_t container_bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }

  /** Usage less inactive file pages, in bytes, of the group whose limit decides (of the process's
   *  own group when physical memory does); -1 when unknown. A figure read less than `max_age_ns`
   *  before `now_ns` (CLOCK_MONOTONIC) is good enough; reading costs about 20 microseconds. One thread
   *  reads at a time; others that come meanwhile get the last figure instead of waiting. About 4 KiB
   *  of stack. */
  int64_t working_set_bytes(int64_t now_ns, int64_t max_age_ns) noexcept MEMLIMIT_EXCLUDES(lock_);

  /** The last figure of working_set_bytes(), without a system call; -1 when there is none. */
  int64_t last_working_set_bytes() const noexcept {
    return last_working_set_.load(std::memory_order_relaxed);
  }

  /** When that figure was read, on CLOCK_MONOTONIC; 0: never. */
  int64_t last_read_ns() const noexcept { return last_read_ns_.load(std::memory_order_relaxed); }

  LimitFile limit_file() const noexcept { return limit_file_; }
  GroupProblem problem() const noexcept { return problem_; }

  /** Writes the path of the file that decided container_bytes(), or "" when there is none, as the
   *  process sees it (without `root`), NUL-terminated; "" when it does not fit. Returns its length.
   */
  size_t limit_path(char* out, size_t cap) const noexcept;

  /** The same for the file or directory that problem() is about. */
  size_t problem_path(char* out, size_t cap) const noexcept;

  /** The same for the directory of the group that working_set_bytes() reads. */
  size_t watched_path(char* out, size_t cap) const noexcept;

  /** In the child of fork only. */
  void reset_after_fork() noexcept { lock_.reset_after_fork(); }

 private:
  struct Found;
  struct Limits;

  /* Where the group is. The lengths are of prefixes of `directory`. */
  struct Place {
    uint64_t membership = 0; /* hash of the process's path in /proc/self/cgroup; 0: unknown */
    uint16_t root_length = 0;
    uint16_t top_length = 0; /* the mount point */
    uint16_t length = 0;     /* the process's own group; 0: not found */
    bool v2 = false;
    GroupProblem problem = GroupProblem::kNone;
    char directory[kMaxGroupPath] = {};

    std::string_view root() const noexcept { return {directory, root_length}; }
    /** Writes the first `prefix` bytes of the directory and `name`; the path's length. */
    size_t file(size_t prefix, const char* name, char* out, size_t cap) const noexcept;
    size_t usage_file(size_t prefix, char* out, size_t cap) const noexcept;
    /** The same without `root`. */
    size_t shown(size_t prefix, const char* name, char* out, size_t cap) const noexcept;
    size_t parent(size_t prefix) const noexcept;
    void read_membership(Found* found) const noexcept;
    void locate(const Found& found) noexcept;
    Limits read_limits() const noexcept;
    bool governs_memory(char* path, size_t cap) const noexcept;
  };

  void adopt(const Limits& limits) noexcept MEMLIMIT_REQUIRES(lock_);

  /* Written under lock_ by the one thread that finds and refreshes, which may read them without. */
  Lock lock_{LockRank::kGroup};
  std::atomic<int64_t> bytes_{-1};
  std::atomic<int64_t> last_working_set_{-1};
  std::atomic<int64_t> last_read_ns_{0};
  Place place_;
  uint16_t limit_length_ = 0;   /* the directory up to here holds the file that decided */
  uint16_t watch_length_ = 0;   /* up to here: the usage that answers to it; 0: none */
  uint16_t problem_length_ = 0; /* up to here: problem_file_ */
  LimitFile limit_file_ = LimitFile::kNone;
  LimitFile problem_file_ = LimitFile::kNone;
  GroupProblem problem_ = GroupProblem::kNone;
  GroupProblem adopted_problem_ = GroupProblem::kNone; /* what stood in the way of bytes_ */
};

/* The pure parsers behind it, apart for tests and fuzzing: they take any bytes. */
namespace cgroup {

inline constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
inline constexpr int64_t kMalformed = -1;

/** Content of a limit file: bytes, kNoLimit for "max" and for numbers no machine has (v1 writes
 *  LONG_MAX rounded down to a page), kMalformed otherwise. */
int64_t parse_limit(std::string_view text) noexcept;

/** A line of /proc/self/cgroup, "4:cpu,memory:/path". */
struct Membership {
  std::string_view controllers; /* empty in the v2 line, "0::/path" */
  std::string_view path;
};
bool parse_membership(std::string_view line, Membership* out) noexcept;

/** A line of /proc/self/mountinfo; root and mount_point are still escaped. */
struct Mount {
  int64_t id = -1;
  std::string_view root, mount_point, fs_type, super_options;
};
bool parse_mount(std::string_view line, Mount* out) noexcept;

/** True when `word` is an element of a comma-separated list. */
bool has_word(std::string_view list, std::string_view word) noexcept;

/** Undoes mountinfo's octal escapes. Length of what was written (no NUL), or -1 when it does not
 * fit or holds a NUL byte. */
int64_t unescape(std::string_view text, char* out, size_t cap) noexcept;

/** Where `path` lies below a mount whose root is `root`: "" or "/sub/group". False when it lies
 *  elsewhere, or cannot be told because the names are outside the cgroup namespace ("/.."). */
bool path_below(std::string_view root, std::string_view path, std::string_view* below) noexcept;

/** True when a mount's root is an ancestor of the cgroup namespace that `path` is in: nameless
 * ("/..",
 *  "/../.."), but its limits hold. */
bool root_above(std::string_view root, std::string_view path) noexcept;

}  // namespace cgroup
}  // namespace memlimit
