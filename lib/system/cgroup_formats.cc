#include "system/cgroup_formats.h"

#include <algorithm>

#include "system/procfs.h"

namespace memlimit::cgroup {
namespace {

/* 2^60: far above any machine, far below LONG_MAX rounded down to the largest page size. */
constexpr int64_t kImplausibleBytes = int64_t{1} << 60;

std::string_view take_word(std::string_view* text) noexcept {
  const size_t end = std::min(text->find(' '), text->size());
  const std::string_view word(text->data(), end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return word;
}

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

}  // namespace memlimit::cgroup
