#include "system/cgroup_place.h"

#include <algorithm>
#include <cstring>

#include "system/cgroup_formats.h"
#include "system/line_reader.h"
#include "system/os.h"

namespace memlimit {
namespace cgroup {
namespace {

constexpr size_t kMountLineBytes = 4096; /* cgroup lines are short; longer ones are overlay's */
constexpr int64_t kMaxMountinfoBytes = int64_t{16} << 20;
constexpr size_t kMaxRootPath = 400;
constexpr size_t kLongestFileName = 32; /* "/memory.limit_in_bytes" and its like */

/* FNV-1a. Never 0. */
uint64_t hash(std::string_view text) noexcept {
  uint64_t h = 0xcbf29ce484222325;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h | 1;
}

/* Writes a + b, NUL-terminated, and returns its length; "" when that does not fit. cap is not 0. */
size_t join(char* out, size_t cap, std::string_view a, std::string_view b) noexcept {
  const size_t length = a.size() + b.size();
  if (length >= cap) {
    out[0] = '\0';
    return 0;
  }
  a.copy(out, a.size());
  b.copy(out + a.size(), b.size());
  out[length] = '\0';
  return length;
}

}  // namespace

uint64_t OwnGroup::id() const noexcept {
  return problem == GroupProblem::kNone ? hash(view()) + v2 : 0;
}

void OwnGroup::read(const char* file) noexcept {
  char buffer[kMountLineBytes];
  LineReader reader(file, buffer, sizeof buffer, kMaxMountinfoBytes);
  std::string_view line;
  problem = GroupProblem::kNoMembership;
  while (reader.next(&line)) {
    Membership member;
    if (!parse_membership(line, &member)) continue;
    const bool v1_memory = has_word(member.controllers, "memory");
    const bool unified = member.controllers.empty() && line.starts_with("0:");
    if (!v1_memory && !unified) {
      // Groups without memory: true of WSL and of kernels with the controller switched off.
      if (problem == GroupProblem::kNoMembership) problem = GroupProblem::kNoController;
      continue;
    }
    path_length = 0;
    if (member.path.size() >= sizeof path) {
      problem = GroupProblem::kTooLong;
    } else {
      path_length = member.path.copy(path, sizeof path);
      problem = GroupProblem::kNone;
    }
    v2 = unified;
    // A controller lives in one hierarchy: where v1 has memory, v2 (a hybrid's) has not.
    if (v1_memory) return;
  }
}

void Place::set_root(const char* root) noexcept {
  root_length = static_cast<uint16_t>(strnlen(root, kMaxRootPath));
  memcpy(directory, root, root_length);
}

size_t Place::file(size_t prefix, const char* name, char* out, size_t cap) const noexcept {
  return join(out, cap, {directory, prefix}, name);
}

size_t Place::shown(size_t prefix, const char* name, char* out, size_t cap) const noexcept {
  if (cap == 0) return 0;
  const size_t from = root_length;
  return join(out, cap, {directory + from, std::max(prefix, from) - from}, name);
}

size_t Place::outside(const char* path, char* out, size_t cap) const noexcept {
  return join(out, cap, root(), path);
}

size_t Place::parent(size_t prefix) const noexcept {
  do --prefix;
  while (prefix > top_length && directory[prefix] != '/');
  return prefix;
}

void Place::read_own_group(OwnGroup* own) const noexcept {
  char path[kMaxGroupPath];
  // thread-self first: `self` shows "/" once the thread group's leader has ended.
  outside("/proc/thread-self/cgroup", path, sizeof path);
  own->read(path);
  if (own->problem != GroupProblem::kNoMembership) return;
  outside("/proc/self/cgroup", path, sizeof path);
  own->read(path);
}

void Place::locate(const OwnGroup& own) noexcept {
  membership = own.id();
  length = top_length = 0;
  v2 = own.v2;
  problem = own.problem;
  if (problem != GroupProblem::kNone) return;

  char line_buffer[kMountLineBytes];
  char mount_root[kMaxGroupPath];
  char candidate[kMaxGroupPath];
  outside("/proc/self/mountinfo", candidate, sizeof candidate);
  LineReader reader(candidate, line_buffer, sizeof line_buffer, kMaxMountinfoBytes);
  problem = GroupProblem::kNoMount;
  const auto reject = [this](GroupProblem why) {
    if (length == 0) problem = why;
  };
  std::string_view line;
  while (reader.next(&line)) {
    Mount mount;
    if (!parse_mount(line, &mount)) continue;
    if (mount.fs_type != (v2 ? "cgroup2" : "cgroup")) continue;
    if (!v2 && !has_word(mount.super_options, "memory")) continue;

    const int64_t mount_root_length = unescape(mount.root, mount_root, sizeof mount_root);
    const int64_t point_length =
        unescape(mount.mount_point, candidate + root_length, sizeof candidate - root_length);
    if (mount_root_length < 0 || point_length < 0) {
      reject(GroupProblem::kTooLong);
      continue;
    }
    const std::string_view from(mount_root, static_cast<size_t>(mount_root_length));
    std::string_view below;
    const bool whole = path_below(from, own.view(), &below);
    if (!whole && !root_above(from, own.view())) {
      reject(GroupProblem::kOutside);
      continue;
    }
    if (!whole) below = {};
    const size_t top = root_length + static_cast<size_t>(point_length);
    const size_t end = top + below.size();
    if (end + kLongestFileName >= sizeof candidate) {
      reject(GroupProblem::kTooLong);
      continue;
    }
    root().copy(candidate, root_length);
    below.copy(candidate + top, below.size());
    // Another mount may cover this one, so the directory must be there, be a group's, and be on this
    // mount (which cannot be told in a recorded tree).
    memcpy(candidate + end, "/cgroup.procs", sizeof "/cgroup.procs");
    const int64_t mount_id = root_length == 0 ? os::mount_id(candidate) : -1;
    if (!os::file_exists(candidate) || (mount_id >= 0 && mount_id != mount.id)) {
      reject(GroupProblem::kOutside);
      continue;
    }
    // The mount that shows the most ancestors wins; a nameless ancestor only where nothing else does.
    const bool have_whole = length != 0 && problem == GroupProblem::kNone;
    if (have_whole && (!whole || below.size() <= size_t{length} - top_length)) continue;
    memcpy(directory + root_length, candidate + root_length, end - root_length);
    length = static_cast<uint16_t>(end);
    top_length = static_cast<uint16_t>(top);
    problem = whole ? GroupProblem::kNone : GroupProblem::kOutside;
  }
}

}  // namespace cgroup

const char* problem_text(GroupProblem problem) noexcept {
  switch (problem) {
    case GroupProblem::kNone:
      return "no problem";
    case GroupProblem::kNoMembership:
      return "/proc/self/cgroup does not tell this process's memory group";
    case GroupProblem::kNoController:
      return "the memory controller is not enabled for this process's group";
    case GroupProblem::kNoMount:
      return "the memory controller's file system is not mounted here";
    case GroupProblem::kOutside:
      return "this process's memory group lies outside what is mounted here";
    case GroupProblem::kTooLong:
      return "the path of this process's memory group is too long";
    case GroupProblem::kUnreadable:
      return "a memory limit file cannot be read";
    case GroupProblem::kMalformed:
      return "a memory limit file holds no usable number";
  }
  return "unknown problem";
}

}  // namespace memlimit
