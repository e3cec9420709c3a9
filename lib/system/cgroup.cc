/* See cgroup.h. The formats: proc(5), cgroups(7), the kernel's admin-guide/cgroup-v2.rst and
 * cgroup-v1/memory.rst. */
#include "system/cgroup.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "system/line_reader.h"
#include "system/os.h"
#include "system/procfs.h"

namespace memlimit {
namespace {

constexpr size_t kMountLineBytes = 4096; /* cgroup lines are short; longer ones are overlay's */
constexpr size_t kStatLineBytes = 1024;
constexpr int64_t kMaxMountinfoBytes = int64_t{16} << 20;
constexpr int64_t kMaxStatBytes = int64_t{1} << 20;
constexpr size_t kMaxRootPath = 400;
constexpr size_t kLongestFileName = 32; /* "/memory.limit_in_bytes" and its like */

/* 2^60: far above any machine, far below LONG_MAX rounded down to the largest page size. */
constexpr int64_t kImplausibleBytes = int64_t{1} << 60;
/* Nothing runs in less than a page: a zero in memory.high is somebody forcing reclaim for a moment.
 */
constexpr int64_t kLeastLimitBytes = 4096;

constexpr const char* file_name(LimitFile file) noexcept {
  switch (file) {
    case LimitFile::kNone:
      return "";
    case LimitFile::kPhysical:
      return "/proc/meminfo";
    case LimitFile::kV1Limit:
      return "/memory.limit_in_bytes";
    case LimitFile::kV1Stat:
      return "/memory.stat";
    case LimitFile::kV2Max:
      return "/memory.max";
    case LimitFile::kV2High:
      return "/memory.high";
  }
  return "";
}

/* One limit file: a number of bytes, cgroup::kNoLimit, or why there is neither. */
struct Reading {
  int64_t bytes = cgroup::kNoLimit;
  GroupProblem problem = GroupProblem::kNone;
  bool missing = false;
};

GroupProblem read_problem(int64_t error) noexcept {
  // Not there, or there no longer (ENODEV: the group was removed under the open file), or 0: the
  // file ended without the line that was looked for.
  if (error == 0 || error == -ENOENT || error == -ENOTDIR || error == -ENODEV)
    return GroupProblem::kNone;
  return GroupProblem::kUnreadable;
}

Reading check(int64_t bytes) noexcept {
  if (bytes == cgroup::kMalformed || bytes < kLeastLimitBytes) {
    return {cgroup::kNoLimit, GroupProblem::kMalformed, false};
  }
  return {bytes, GroupProblem::kNone, false};
}

Reading read_limit(const char* path) noexcept {
  char text[64];
  const int64_t length = os::read_file(path, text, sizeof text);
  if (length < 0) {
    const GroupProblem problem = read_problem(length);
    return {cgroup::kNoLimit, problem, problem == GroupProblem::kNone};
  }
  return check(cgroup::parse_limit({text, static_cast<size_t>(length)}));
}

/* The value of `key` in a memory.stat, as text in the caller's buffer; missing when it has none. */
struct StatValue {
  std::string_view text;
  int error = 0;
  bool found = false;
};

StatValue read_stat(const char* path, std::string_view key, char* buffer, size_t cap) noexcept {
  LineReader reader(path, buffer, cap, kMaxStatBytes);
  std::string_view line;
  while (reader.next(&line)) {
    if (line.size() <= key.size() || !line.starts_with(key) || line[key.size()] != ' ') continue;
    line.remove_prefix(key.size() + 1);
    return {line, 0, true};
  }
  return {{}, reader.error(), false};
}

Reading read_stat_limit(const char* path) noexcept {
  char buffer[kStatLineBytes];
  const StatValue value = read_stat(path, "hierarchical_memory_limit", buffer, sizeof buffer);
  if (value.found) return check(cgroup::parse_limit(value.text));
  const GroupProblem problem = read_problem(value.error);
  return {cgroup::kNoLimit, problem, problem == GroupProblem::kNone};
}

int64_t whole_integer(std::string_view text) noexcept {
  const int64_t value = procfs::take_integer(&text);
  return text.empty() || text == "\n" ? value : procfs::kUnknown;
}

int64_t read_integer(const char* path) noexcept {
  char text[64];
  const int64_t length = os::read_file(path, text, sizeof text);
  if (length < 0) return procfs::kUnknown;
  return whole_integer({text, static_cast<size_t>(length)});
}

/* FNV-1a, so that a move to another group is noticed without keeping the path. Never 0. */
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

std::string_view take_word(std::string_view* text) noexcept {
  const size_t end = std::min(text->find(' '), text->size());
  const std::string_view word(text->data(), end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return word;
}

}  // namespace

namespace cgroup {

int64_t parse_limit(std::string_view text) noexcept {
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (text == "max" || text == "-1") return kNoLimit;
  uint64_t value = 0;
  if (text.empty()) return kMalformed;
  for (const char c : text) {
    if (c < '0' || c > '9') return kMalformed;
    if (__builtin_mul_overflow(value, uint64_t{10}, &value)) return kMalformed;
    if (__builtin_add_overflow(value, static_cast<uint64_t>(c - '0'), &value)) return kMalformed;
  }
  return value >= static_cast<uint64_t>(kImplausibleBytes) ? kNoLimit : static_cast<int64_t>(value);
}

bool parse_membership(std::string_view line, Membership* out) noexcept {
  std::string_view rest = line;
  if (procfs::take_integer(&rest) == procfs::kUnknown) return false;
  if (!rest.starts_with(':')) return false;
  rest.remove_prefix(1);
  const size_t colon = rest.find(':');
  if (colon == std::string_view::npos) return false;
  out->controllers = {rest.data(), colon};
  rest.remove_prefix(colon + 1);
  // The path may itself hold colons (containerd with systemd names); it ends with the line.
  if (!rest.starts_with('/') || rest.find('\0') != std::string_view::npos) return false;
  out->path = rest;
  return true;
}

bool parse_mount(std::string_view line, Mount* out) noexcept {
  std::string_view rest = line;
  std::string_view id = take_word(&rest);
  out->id = procfs::take_integer(&id);
  take_word(&rest); /* parent id */
  take_word(&rest); /* device */
  out->root = take_word(&rest);
  out->mount_point = take_word(&rest);
  take_word(&rest); /* options */
  // Any number of optional fields, then a lone dash.
  for (;;) {
    if (rest.empty()) return false;
    if (take_word(&rest) == "-") break;
  }
  out->fs_type = take_word(&rest);
  take_word(&rest); /* source */
  out->super_options = take_word(&rest);
  return out->root.starts_with('/') && out->mount_point.starts_with('/') && !out->fs_type.empty();
}

bool has_word(std::string_view list, std::string_view word) noexcept {
  while (!list.empty()) {
    const size_t end = std::min(list.find(','), list.size());
    if (std::string_view(list.data(), end) == word) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

int64_t unescape(std::string_view text, char* out, size_t cap) noexcept {
  const auto octal = [&](size_t i) {
    return i < text.size() && text[i] >= '0' && text[i] <= '7' ? text[i] - '0' : -1;
  };
  size_t length = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    int byte = static_cast<unsigned char>(text[i]);
    if (byte == '\\' && octal(i + 1) >= 0 && octal(i + 2) >= 0 && octal(i + 3) >= 0) {
      byte = octal(i + 1) * 64 + octal(i + 2) * 8 + octal(i + 3);
      i += 3;
    }
    if (byte == 0 || byte > 255 || length == cap) return -1;
    out[length++] = static_cast<char>(byte);
  }
  return static_cast<int64_t>(length);
}

namespace {

bool climbs(std::string_view path) noexcept {
  for (size_t at = path.find("/.."); at != std::string_view::npos; at = path.find("/..", at + 1)) {
    if (at + 3 == path.size() || path[at + 3] == '/') return true;
  }
  return false;
}

/* How many "/.." a path begins with; what follows them goes to *rest. */
size_t count_climbs(std::string_view path, std::string_view* rest) noexcept {
  size_t count = 0;
  while (path.starts_with("/..") && (path.size() == 3 || path[3] == '/')) {
    path.remove_prefix(3);
    ++count;
  }
  *rest = path;
  return count;
}

}  // namespace

bool path_below(std::string_view root, std::string_view path, std::string_view* below) noexcept {
  if (root == "/") root = {};
  if (path == "/") path = {};
  if (!path.starts_with(root)) return false;
  path.remove_prefix(root.size());
  if (!path.empty() && path.front() != '/') return false;
  if (climbs(path)) return false;
  *below = path;
  return true;
}

bool root_above(std::string_view root, std::string_view path) noexcept {
  std::string_view below_root, below_path;
  const size_t up = count_climbs(root, &below_root);
  return up > count_climbs(path, &below_path) && below_root.empty();
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

/* The process's own line of /proc/self/cgroup. */
struct MemoryGroup::Found {
  char path[kMaxGroupPath];
  size_t path_length = 0;
  bool v2 = false;
  GroupProblem problem = GroupProblem::kNoMembership;

  std::string_view view() const noexcept { return {path, path_length}; }
  uint64_t id() const noexcept { return problem == GroupProblem::kNone ? hash(view()) + v2 : 0; }
  void read(const char* file) noexcept;
};

void MemoryGroup::Found::read(const char* file) noexcept {
  char buffer[kMountLineBytes];
  LineReader reader(file, buffer, sizeof buffer, kMaxMountinfoBytes);
  std::string_view line;
  problem = GroupProblem::kNoMembership;
  while (reader.next(&line)) {
    cgroup::Membership member;
    if (!cgroup::parse_membership(line, &member)) continue;
    const bool v1_memory = cgroup::has_word(member.controllers, "memory");
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

/* The limit found, and what stood in the way. */
struct MemoryGroup::Limits {
  int64_t bytes = -1;
  uint16_t length = 0, watch_length = 0, problem_length = 0;
  LimitFile file = LimitFile::kNone, problem_file = LimitFile::kNone;
  GroupProblem problem = GroupProblem::kNone;
  bool any_file = false; /* a limit file was there, with or without a limit */

  void note(const Reading& reading, LimitFile which, size_t directory_length) noexcept {
    any_file = any_file || !reading.missing;
    if (reading.problem != GroupProblem::kNone && problem == GroupProblem::kNone) {
      problem = reading.problem;
      problem_file = which;
      problem_length = static_cast<uint16_t>(directory_length);
    }
    // The nearest of equals: its usage is the one to watch.
    if (reading.bytes == cgroup::kNoLimit || (bytes >= 0 && reading.bytes >= bytes)) return;
    bytes = reading.bytes;
    file = which;
    length = static_cast<uint16_t>(directory_length);
  }
};

size_t MemoryGroup::Place::file(size_t prefix, const char* name, char* out,
                                size_t cap) const noexcept {
  return join(out, cap, {directory, prefix}, name);
}

size_t MemoryGroup::Place::usage_file(size_t prefix, char* out, size_t cap) const noexcept {
  return file(prefix, v2 ? "/memory.current" : "/memory.usage_in_bytes", out, cap);
}

size_t MemoryGroup::Place::shown(size_t prefix, const char* name, char* out,
                                 size_t cap) const noexcept {
  if (cap == 0) return 0;
  const size_t from = root_length;
  return join(out, cap, {directory + from, std::max(prefix, from) - from}, name);
}

/* From a group's directory up to the one above it, not beyond the mount point. */
size_t MemoryGroup::Place::parent(size_t prefix) const noexcept {
  do --prefix;
  while (prefix > top_length && directory[prefix] != '/');
  return prefix;
}

void MemoryGroup::Place::read_membership(Found* found) const noexcept {
  char path[kMaxGroupPath];
  // thread-self first: `self` shows "/" once the thread group's leader has ended.
  join(path, sizeof path, root(), "/proc/thread-self/cgroup");
  found->read(path);
  if (found->problem != GroupProblem::kNoMembership) return;
  join(path, sizeof path, root(), "/proc/self/cgroup");
  found->read(path);
}

/* Finds the directory of the group described by `found` among the mounts. */
void MemoryGroup::Place::locate(const Found& found) noexcept {
  membership = found.id();
  length = top_length = 0;
  v2 = found.v2;
  problem = found.problem;
  if (problem != GroupProblem::kNone) return;

  char line_buffer[kMountLineBytes];
  char mount_root[kMaxGroupPath];
  char candidate[kMaxGroupPath];
  join(candidate, sizeof candidate, root(), "/proc/self/mountinfo");
  LineReader reader(candidate, line_buffer, sizeof line_buffer, kMaxMountinfoBytes);
  problem = GroupProblem::kNoMount;
  const auto reject = [this](GroupProblem why) {
    if (length == 0) problem = why;
  };
  std::string_view line;
  while (reader.next(&line)) {
    cgroup::Mount mount;
    if (!cgroup::parse_mount(line, &mount)) continue;
    if (mount.fs_type != (v2 ? "cgroup2" : "cgroup")) continue;
    if (!v2 && !cgroup::has_word(mount.super_options, "memory")) continue;

    const int64_t mount_root_length = cgroup::unescape(mount.root, mount_root, sizeof mount_root);
    const int64_t point_length = cgroup::unescape(mount.mount_point, candidate + root_length,
                                                  sizeof candidate - root_length);
    if (mount_root_length < 0 || point_length < 0) {
      reject(GroupProblem::kTooLong);
      continue;
    }
    const std::string_view from(mount_root, static_cast<size_t>(mount_root_length));
    std::string_view below;
    const bool whole = cgroup::path_below(from, found.view(), &below);
    if (!whole && !cgroup::root_above(from, found.view())) {
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

MemoryGroup::Limits MemoryGroup::Place::read_limits() const noexcept {
  Limits limits;
  char path[kMaxGroupPath];
  const auto read = [&](LimitFile which, size_t prefix) {
    file(prefix, file_name(which), path, sizeof path);
    return read_limit(path);
  };
  if (length != 0 && v2) {
    for (size_t prefix = length;; prefix = parent(prefix)) {
      limits.note(read(LimitFile::kV2Max, prefix), LimitFile::kV2Max, prefix);
      limits.note(read(LimitFile::kV2High, prefix), LimitFile::kV2High, prefix);
      if (prefix <= top_length) break;
    }
  } else if (length != 0) {
    // The kernel's own answer covers ancestors that are not visible here and leaves out those that do
    // not count (memory.use_hierarchy = 0), so ancestors' files serve to name the place, and for a
    // limit only where memory.stat has no answer.
    file(length, file_name(LimitFile::kV1Stat), path, sizeof path);
    const Reading whole = read_stat_limit(path);
    const bool kernel_says = !whole.missing && whole.problem == GroupProblem::kNone;
    for (size_t prefix = length;; prefix = parent(prefix)) {
      Reading here = read(LimitFile::kV1Limit, prefix);
      if (kernel_says && prefix != length && here.bytes != whole.bytes) {
        here.bytes = cgroup::kNoLimit;
      }
      limits.note(here, LimitFile::kV1Limit, prefix);
      if (prefix <= top_length) break;
    }
    limits.note(whole, LimitFile::kV1Stat, length);
  }

  // What answers to the limit: usage where it is set; the nearest to an invisible ancestor.
  size_t watch = limits.file == LimitFile::kV1Stat ? top_length : limits.length;
  join(path, sizeof path, root(), {});
  const int64_t physical = procfs::physical_memory_bytes(path);
  if (physical > 0 && (limits.bytes < 0 || physical < limits.bytes)) {
    limits.bytes = physical;
    limits.file = LimitFile::kPhysical;
    limits.length = 0;
    // Nothing but the machine limits the group, so its own usage is what can be told; not an
    // ancestor's that stands for a group which was not found.
    watch = problem == GroupProblem::kNone ? length : 0;
    while (watch > top_length) {
      usage_file(watch, path, sizeof path);
      if (os::file_exists(path)) break;
      watch = parent(watch);
    }
  }
  limits.watch_length = static_cast<uint16_t>(watch);

  if (problem != GroupProblem::kNone) {
    limits.problem = problem;
    limits.problem_file = LimitFile::kNone;
    limits.problem_length = length;
  } else if (!limits.any_file && !governs_memory(path, sizeof path)) {
    limits.problem = GroupProblem::kNoController;
    limits.problem_length = length;
  }
  return limits;
}

/* Whether it is right that no group here has a limit file: so in v2's real root group, whose list of
 * controllers has memory all the same. */
bool MemoryGroup::Place::governs_memory(char* path, size_t cap) const noexcept {
  char words[512];
  file(top_length, "/cgroup.controllers", path, cap);
  const int64_t got = os::read_file(path, words, sizeof words);
  if (got < 0) return false;
  std::replace_if(
      words, words + got, [](char c) { return c == ' ' || c == '\n'; }, ',');
  return cgroup::has_word({words, static_cast<size_t>(got)}, "memory");
}

void MemoryGroup::adopt(const Limits& limits) noexcept {
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
  place_.root_length = static_cast<uint16_t>(strnlen(root, kMaxRootPath));
  memcpy(place_.directory, root, place_.root_length);
  Found found;
  place_.read_membership(&found);
  place_.locate(found);
  adopt(place_.read_limits());
}

bool MemoryGroup::refresh() noexcept {
  LockGuard guard(lock_);
  Found found;
  place_.read_membership(&found);
  const int64_t before = container_bytes();
  // A limit that cannot be read any more has not gone away: only what was unreadable from the start,
  // or a tighter limit, is believed then.
  const auto believable = [&](const Limits& limits) {
    return limits.problem == GroupProblem::kNone || limits.problem == adopted_problem_ ||
           limits.bytes < before || before < 0;
  };
  if (found.id() != 0 && found.id() != place_.membership) {
    Place moved = place_;
    moved.locate(found);
    const Limits limits = moved.read_limits();
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
  const Limits limits = place_.read_limits();
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
  if (!lock_.try_lock()) return last_working_set_bytes();
  char path[kMaxGroupPath];
  char buffer[kStatLineBytes];
  int64_t bytes = procfs::kUnknown;
  if (watch_length_ != 0) {
    place_.usage_file(watch_length_, path, sizeof path);
    bytes = read_integer(path);
  }
  if (bytes > 0) {
    place_.file(watch_length_, "/memory.stat", path, sizeof path);
    const StatValue value =
        read_stat(path, place_.v2 ? "inactive_file" : "total_inactive_file", buffer, sizeof buffer);
    // Without that figure the whole usage counts: rather too much reclaim than too little.
    const int64_t inactive = value.found ? whole_integer(value.text) : procfs::kUnknown;
    if (inactive > 0) bytes = std::max<int64_t>(bytes - inactive, 0);
  }
  last_working_set_.store(bytes, std::memory_order_relaxed);
  last_read_ns_.store(now_ns, std::memory_order_relaxed);
  lock_.unlock();
  return bytes;
}

size_t MemoryGroup::limit_path(char* out, size_t cap) const noexcept {
  return place_.shown(limit_length_, file_name(limit_file_), out, cap);
}

size_t MemoryGroup::problem_path(char* out, size_t cap) const noexcept {
  return place_.shown(problem_length_, file_name(problem_file_), out, cap);
}

size_t MemoryGroup::watched_path(char* out, size_t cap) const noexcept {
  return place_.shown(watch_length_, "", out, cap);
}

}  // namespace memlimit
