/* The formats that memory groups are described in: /proc/self/cgroup, mountinfo, the limits' files.
 *
 * Answers for: any bytes give a defined answer; nothing is taken for a limit that is none. Refuses to open a file
 * and to remember anything. The formats: proc(5), cgroups(7), the kernel's admin-guide/cgroup-v2.rst and
 * cgroup-v1/memory.rst. Pure: any thread, also inside malloc.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

namespace memlimit::cgroup {

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
 *  ("/..", "/../.."), but its limits hold. */
bool root_above(std::string_view root, std::string_view path) noexcept;

}  // namespace memlimit::cgroup
