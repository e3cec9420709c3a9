#include "system/cgroup_limits.h"

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "system/cgroup_formats.h"
#include "system/line_reader.h"
#include "system/os.h"
#include "system/procfs.h"

namespace memlimit::cgroup {
namespace {

constexpr size_t kStatLineBytes = 1024;
constexpr int64_t kMaxStatBytes = int64_t{1} << 20;
/* Nothing runs in less than a page: a zero in memory.high is somebody forcing reclaim for a moment. */
constexpr int64_t kLeastLimitBytes = 4096;

/* One limit file: a number of bytes, kNoLimit, or why there is neither. */
struct Reading {
  int64_t bytes = kNoLimit;
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
  if (bytes == kMalformed || bytes < kLeastLimitBytes) {
    return {kNoLimit, GroupProblem::kMalformed, false};
  }
  return {bytes, GroupProblem::kNone, false};
}

Reading read_limit(const char* path) noexcept {
  char text[64];
  const int64_t length = os::read_file(path, text, sizeof text);
  if (length < 0) {
    const GroupProblem problem = read_problem(length);
    return {kNoLimit, problem, problem == GroupProblem::kNone};
  }
  return check(parse_limit({text, static_cast<size_t>(length)}));
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
  if (value.found) return check(parse_limit(value.text));
  const GroupProblem problem = read_problem(value.error);
  return {kNoLimit, problem, problem == GroupProblem::kNone};
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

/* The tightest of the limits that it is told of. */
struct Tightest : Limits {
  bool any_file = false; /* a limit file was there, with or without a limit */

  void note(const Reading& reading, LimitFile which, size_t directory_length) noexcept {
    any_file = any_file || !reading.missing;
    if (reading.problem != GroupProblem::kNone && problem == GroupProblem::kNone) {
      problem = reading.problem;
      problem_file = which;
      problem_length = static_cast<uint16_t>(directory_length);
    }
    // The nearest of equals: its usage is the one to watch.
    if (reading.bytes == kNoLimit || (bytes >= 0 && reading.bytes >= bytes)) return;
    bytes = reading.bytes;
    file = which;
    length = static_cast<uint16_t>(directory_length);
  }
};

Reading read_limit_in(const Place& place, size_t prefix, LimitFile which) noexcept {
  char path[kMaxGroupPath];
  place.file(prefix, file_name(which), path, sizeof path);
  return which == LimitFile::kV1Stat ? read_stat_limit(path) : read_limit(path);
}

void note_v2_limits(const Place& place, Tightest* limits) noexcept {
  for (size_t prefix = place.length;; prefix = place.parent(prefix)) {
    for (const LimitFile which : {LimitFile::kV2Max, LimitFile::kV2High}) {
      limits->note(read_limit_in(place, prefix, which), which, prefix);
    }
    if (prefix <= place.top_length) break;
  }
}

/* The kernel's own answer covers ancestors that are not visible here and leaves out those that do not count
 * (memory.use_hierarchy = 0), so ancestors' files serve to name the place, and for a limit only where memory.stat
 * has no answer. */
void note_v1_limits(const Place& place, Tightest* limits) noexcept {
  const Reading whole = read_limit_in(place, place.length, LimitFile::kV1Stat);
  const bool kernel_says = !whole.missing && whole.problem == GroupProblem::kNone;
  for (size_t prefix = place.length;; prefix = place.parent(prefix)) {
    Reading here = read_limit_in(place, prefix, LimitFile::kV1Limit);
    if (kernel_says && prefix != place.length && here.bytes != whole.bytes) here.bytes = kNoLimit;
    limits->note(here, LimitFile::kV1Limit, prefix);
    if (prefix <= place.top_length) break;
  }
  limits->note(whole, LimitFile::kV1Stat, place.length);
}

size_t usage_file(const Place& place, size_t prefix, char* out, size_t cap) noexcept {
  const char* const name = place.v2 ? "/memory.current" : "/memory.usage_in_bytes";
  return place.file(prefix, name, out, cap);
}

/* Nothing but the machine limits the group, so its own usage is what can be told; not an ancestor's that stands
 * for a group which was not found. */
size_t nearest_usage(const Place& place) noexcept {
  if (place.problem != GroupProblem::kNone) return 0;
  char path[kMaxGroupPath];
  size_t prefix = place.length;
  while (prefix > place.top_length) {
    usage_file(place, prefix, path, sizeof path);
    if (os::file_exists(path)) break;
    prefix = place.parent(prefix);
  }
  return prefix;
}

/* Whether it is right that no group here has a limit file: so in v2's real root group, whose list of
 * controllers has memory all the same. */
bool governs_memory(const Place& place) noexcept {
  char path[kMaxGroupPath];
  char words[512];
  place.file(place.top_length, "/cgroup.controllers", path, sizeof path);
  const int64_t got = os::read_file(path, words, sizeof words);
  if (got < 0) return false;
  std::replace_if(
      words, words + got, [](char c) { return c == ' ' || c == '\n'; }, ',');
  return has_word({words, static_cast<size_t>(got)}, "memory");
}

}  // namespace

const char* file_name(LimitFile file) noexcept {
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

Limits read_limits(const Place& place) noexcept {
  Tightest limits;
  if (place.length != 0) {
    if (place.v2) {
      note_v2_limits(place, &limits);
    } else {
      note_v1_limits(place, &limits);
    }
  }
  // What answers to the limit: usage where it is set; the nearest to an invisible ancestor.
  size_t watch = limits.file == LimitFile::kV1Stat ? place.top_length : limits.length;

  char path[kMaxGroupPath];
  place.outside("", path, sizeof path);
  const int64_t physical = procfs::physical_memory_bytes(path);
  if (physical > 0 && (limits.bytes < 0 || physical < limits.bytes)) {
    limits.bytes = physical;
    limits.file = LimitFile::kPhysical;
    limits.length = 0;
    watch = nearest_usage(place);
  }
  limits.watch_length = static_cast<uint16_t>(watch);

  if (place.problem != GroupProblem::kNone) {
    limits.problem = place.problem;
    limits.problem_file = LimitFile::kNone;
    limits.problem_length = place.length;
  } else if (!limits.any_file && !governs_memory(place)) {
    limits.problem = GroupProblem::kNoController;
    limits.problem_length = place.length;
  }
  return limits;
}

int64_t read_working_set(const Place& place, size_t watch_length) noexcept {
  if (watch_length == 0) return procfs::kUnknown;
  char path[kMaxGroupPath];
  usage_file(place, watch_length, path, sizeof path);
  const int64_t usage = read_integer(path);
  if (usage <= 0) return usage;
  char buffer[kStatLineBytes];
  place.file(watch_length, file_name(LimitFile::kV1Stat), path, sizeof path);
  const StatValue value =
      read_stat(path, place.v2 ? "inactive_file" : "total_inactive_file", buffer, sizeof buffer);
  // Without that figure the whole usage counts: rather too much reclaim than too little.
  const int64_t inactive = value.found ? whole_integer(value.text) : procfs::kUnknown;
  return inactive > 0 ? std::max<int64_t>(usage - inactive, 0) : usage;
}

}  // namespace memlimit::cgroup
