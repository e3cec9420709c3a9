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

#include "system/attributes.h"
#include "system/cgroup_limits.h"
#include "system/cgroup_place.h"
#include "system/lock.h"

namespace memlimit {

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
   *  before `now_ns` (CLOCK_MONOTONIC) is good enough, and any where low_numbers::may_take() says no.
   *  Reading costs about 20 microseconds. One thread reads at a time; others that come meanwhile get the
   *  last figure instead of waiting. About 4 KiB of stack. */
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

  /** Opens a file of that directory ("/memory.stat"), which all processes that answer to its limit see, for reading.
   *  Descriptor, or -errno. */
  int open_watched(const char* name) const noexcept;

  /** In the child of fork only. */
  void reset_after_fork() noexcept { lock_.reset_after_fork(); }

 private:
  void adopt(const cgroup::Limits& limits) noexcept MEMLIMIT_REQUIRES(lock_);

  /* Written under lock_ by the one thread that finds and refreshes, which may read them without. */
  Lock lock_{LockRank::kGroup};
  std::atomic<int64_t> bytes_{-1};
  std::atomic<int64_t> last_working_set_{-1};
  std::atomic<int64_t> last_read_ns_{0};
  cgroup::Place place_;
  uint16_t limit_length_ = 0, watch_length_ = 0, problem_length_ = 0; /* as in Limits */
  LimitFile limit_file_ = LimitFile::kNone;
  LimitFile problem_file_ = LimitFile::kNone;
  GroupProblem problem_ = GroupProblem::kNone;
  GroupProblem adopted_problem_ = GroupProblem::kNone; /* what stood in the way of bytes_ */
};

}  // namespace memlimit
