/* See first_site.h. */
#include "profile/first_site.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <string_view>

#include "system/line_reader.h"

namespace memlimit::profile {
namespace {

constexpr size_t kMostNames = 2;
constexpr size_t kMostFrames = 16;     /* that are looked up: deeper ones tell little */
constexpr size_t kMostNameBytes = 100; /* of one; a path loses its beginning */
constexpr int64_t kMostMapsBytes = int64_t{16} << 20;

struct Site {
  Sites::Number number;
  int64_t live_bytes;
};

Site find_first(const Sites& sites) noexcept {
  Site first{Sites::kNoSite, 0};
  sites.for_each([&](Sites::Number site) {
    const auto live = static_cast<int64_t>(sites.figures(site).live_bytes);
    if (site != Sites::kNoSite && live > first.live_bytes) first = {site, live};
  });
  return first;
}

/* A frame's image, and where in its file the frame is. */
struct Place {
  uintptr_t offset = 0;
  size_t length = 0;
  char image[kMostNameBytes] = {};

  std::string_view name() const noexcept { return {image, length}; }
  bool is_library_of_the_language() const noexcept {
    return name().substr(0, 5) == "libc." || name().substr(0, 5) == "libc-" ||
           name().substr(0, 10) == "libstdc++.";
  }
};

bool take_number(std::string_view& line, uintptr_t* out) noexcept {
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), *out, 16);
  if (error != std::errc{}) return false;
  line.remove_prefix(static_cast<size_t>(end - line.data()));
  return true;
}

/* "55d0-55e0 r-xp 00001000 08:01 1234   /usr/bin/server": what of the frames lies there is found. */
void look_at(std::string_view line, const uintptr_t* frames, size_t count, Place* places) noexcept {
  uintptr_t begin = 0, end = 0, offset = 0;
  if (!take_number(line, &begin) || line.substr(0, 1) != "-") return;
  line.remove_prefix(1);
  if (!take_number(line, &end) || line.size() < 6) return;
  line.remove_prefix(6);
  if (!take_number(line, &offset)) return;
  const size_t slash = line.find('/');
  if (slash == std::string_view::npos) return;
  const std::string_view image = line.substr(line.rfind('/') + 1);
  for (size_t i = 0; i < count; ++i) {
    if (frames[i] < begin || frames[i] >= end) continue;
    places[i].offset = frames[i] - begin + offset;
    places[i].length = image.copy(places[i].image, sizeof places[i].image);
  }
}

/* The end of a long one: of "function path:line" that tells more. */
void put_label(TextWriter& out, std::string_view text) noexcept {
  if (text.size() <= kMostNameBytes) {
    out.put(text);
    return;
  }
  const std::string_view function = text.substr(0, text.find(' '));
  const size_t rest = kMostNameBytes - std::min(kMostNameBytes, function.size());
  out.put(function.substr(0, kMostNameBytes)).put(" ...").put(text.substr(text.size() - rest));
}

size_t put_labels(TextWriter& out, const Labels& labels, const uintptr_t* frames,
                  size_t count) noexcept {
  size_t put = 0;
  for (size_t i = 0; i < count && put < kMostNames; ++i) {
    if (!Labels::is_label(frames[i])) continue;
    put_label(out.put(put++ == 0 ? "" : " < "), labels.text(frames[i]));
  }
  return put;
}

void put_places(TextWriter& out, const uintptr_t* frames, size_t count, const char* maps) noexcept {
  Place places[kMostFrames];
  count = std::min(count, kMostFrames);
  char buffer[4096 + 128];
  LineReader reader(maps, buffer, sizeof buffer, kMostMapsBytes);
  for (std::string_view line; reader.next(&line);) look_at(line, frames, count, places);
  // Who asked the language's library for memory is of interest; where nobody else is known, it.
  size_t from = 0;
  while (from < count && places[from].is_library_of_the_language()) ++from;
  if (from == count) from = 0;
  for (size_t i = from; i < std::min(count, from + kMostNames); ++i) {
    if (i > from) out.put(" < ");
    if (places[i].length > 0) out.put(places[i].name()).put('+');
    out.put("0x").put_uint(places[i].length > 0 ? places[i].offset : frames[i], 16);
  }
}

}  // namespace

int64_t put_first_site(TextWriter& out, const Sites& sites, const Labels& labels,
                       const char* maps) noexcept {
  const Site first = find_first(sites);
  const uintptr_t* frames = nullptr;
  const int depth = first.live_bytes > 0 ? sites.frames(first.number, &frames) : 0;
  if (depth <= 0) return 0;
  const auto count = static_cast<size_t>(depth);
  if (put_labels(out, labels, frames, count) == 0) put_places(out, frames, count, maps);
  return first.live_bytes;
}

}  // namespace memlimit::profile
