#include "system/cgroup.h"

#include <cerrno>

#include "system/low_numbers.h"
#include "system/os.h"

namespace memlimit {

void MemoryGroup::adopt(const cgroup::Limits& limits) noexcept {
  limit_length_ = limits.length;
  limit_file_ = limits.file;
  watch_length_ = limits.watch_length;
  problem_ = adopted_problem_ = limits.problem;
  problem_file_ = limits.problem_file;
  problem_length_ = limits.problem_length;
  bytes_.store(limits.bytes, std::memory_order_relaxed);
  last_read_ns_.store(0, std::memory_order_relaxed);
}

void MemoryGroup::find(const char* root) noexcept {
  LockGuard guard(lock_);
  place_.set_root(root);
  cgroup::OwnGroup own;
  place_.read_own_group(&own);
  place_.locate(own);
  adopt(cgroup::read_limits(place_));
}

bool MemoryGroup::refresh() noexcept {
  if (!low_numbers::may_take()) return false;
  LockGuard guard(lock_);
  cgroup::OwnGroup own;
  place_.read_own_group(&own);
  const int64_t before = container_bytes();
  // A limit that cannot be read any more has not gone away: only what was unreadable from the start,
  // or a tighter limit, is believed then.
  const auto believable = [&](const cgroup::Limits& limits) {
    return limits.problem == GroupProblem::kNone || limits.problem == adopted_problem_ ||
           limits.bytes < before || before < 0;
  };
  if (own.id() != 0 && own.id() != place_.membership) {
    cgroup::Place moved = place_;
    moved.locate(own);
    const cgroup::Limits limits = cgroup::read_limits(moved);
    if (believable(limits)) {
      place_ = moved;
      adopt(limits);
    } else {
      problem_ = limits.problem;
      problem_file_ = LimitFile::kNone;
      problem_length_ = 0;
    }
    return container_bytes() != before;
  }
  const cgroup::Limits limits = cgroup::read_limits(place_);
  if (believable(limits)) {
    adopt(limits);
  } else {
    problem_ = limits.problem;
    problem_file_ = limits.problem_file;
    problem_length_ = limits.problem_length;
  }
  return container_bytes() != before;
}

int64_t MemoryGroup::working_set_bytes(int64_t now_ns, int64_t max_age_ns) noexcept {
  const int64_t last_read_ns = last_read_ns_.load(std::memory_order_relaxed);
  if (last_read_ns != 0 && now_ns - last_read_ns < max_age_ns) return last_working_set_bytes();
  if (!low_numbers::may_take()) return last_working_set_bytes();
  if (!lock_.try_lock()) return last_working_set_bytes();
  const int64_t bytes = cgroup::read_working_set(place_, watch_length_);
  last_working_set_.store(bytes, std::memory_order_relaxed);
  last_read_ns_.store(now_ns, std::memory_order_relaxed);
  lock_.unlock();
  return bytes;
}

size_t MemoryGroup::limit_path(char* out, size_t cap) const noexcept {
  return place_.shown(limit_length_, cgroup::file_name(limit_file_), out, cap);
}

size_t MemoryGroup::problem_path(char* out, size_t cap) const noexcept {
  return place_.shown(problem_length_, cgroup::file_name(problem_file_), out, cap);
}

size_t MemoryGroup::watched_path(char* out, size_t cap) const noexcept {
  return place_.shown(watch_length_, "", out, cap);
}

int MemoryGroup::open_watched(const char* name) const noexcept {
  char path[kMaxGroupPath];
  if (watch_length_ == 0 || place_.file(watch_length_, name, path, sizeof path) == 0) {
    return -ENOENT;
  }
  return os::open_read(path);
}

}  // namespace memlimit
