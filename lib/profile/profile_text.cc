/* See profile_text.h. */
#include "profile/profile_text.h"

#include <algorithm>
#include <string_view>

#include "profile/stack_walk.h"
#include "system/line_reader.h"
#include "system/os.h"
#include "system/text.h"

namespace memlimit::profile {
namespace {

/* A line at its longest: four numbers, and the addresses. */
constexpr size_t kMostLineBytes = 100 + kMaxFrames * 19;
/* How much of the text the maps may take. */
constexpr size_t kMostMapsShare = 4; /* a quarter; the names of script frames another */
constexpr int64_t kMostMapsBytes = int64_t{16} << 20;

struct Row {
  uint64_t live_bytes;
  Sites::Number site;
};

void add_to(SiteFigures& sum, const SiteFigures& one) noexcept {
  sum.live_bytes += one.live_bytes;
  sum.live_blocks += one.live_blocks;
  sum.total_bytes += one.total_bytes;
  sum.total_blocks += one.total_blocks;
}

void put_figures(TextWriter& out, const SiteFigures& of) noexcept {
  out.put_uint(of.live_blocks).put(": ").put_uint(of.live_bytes);
  out.put(" [").put_uint(of.total_blocks).put(": ").put_uint(of.total_bytes).put("] @");
}

void put_address(TextWriter& out, uintptr_t address) noexcept {
  out.put(" 0x").put_uint(address, 16);
}

void put_site(TextWriter& out, const Sites& sites, Sites::Number site) noexcept {
  put_figures(out, sites.figures(site));
  const uintptr_t* frames = nullptr;
  const int depth = sites.frames(site, &frames);
  for (int i = 0; i < depth; ++i) put_address(out, frames[i]);
  if (depth == 0) put_address(out, kUnknownStack);
  out.put('\n');
}

/* Of the sites that are shown, each name once: a bit of `told` for each number. */
void put_labels(TextWriter& out, const Sites& sites, const Labels& labels, const Row* rows,
                size_t count, size_t most_bytes) noexcept {
  constexpr size_t kBits = Labels::kTableBytes / 8;
  auto* const told = static_cast<uint8_t*>(os::map_pages(kBits / 8));
  if (told == nullptr) return;
  const size_t begin = out.length();
  for (size_t i = 0; i < count; ++i) {
    const uintptr_t* frames = nullptr;
    const int depth = sites.frames(rows[i].site, &frames);
    for (int j = 0; j < depth; ++j) {
      if (!Labels::is_label(frames[j])) continue;
      const uintptr_t number = frames[j] - Labels::kFirst;
      const auto bit = static_cast<uint8_t>(1U << number % 8);
      if (number >= kBits || (told[number / 8] & bit) != 0) continue;
      told[number / 8] |= bit;
      if (out.length() - begin + Labels::kMostTextBytes + 32 > most_bytes) break;
      if (out.length() == begin) out.put("\nSCRIPT_FRAMES:\n");
      out.put("0x").put_uint(frames[j], 16).put(' ').put(labels.text(frames[j])).put('\n');
    }
  }
  os::unmap_pages(told, kBits / 8);
}

/* Code alone: addresses of nothing else occur. */
void put_maps(TextWriter& out, const char* path, size_t most_bytes) noexcept {
  out.put("\nMAPPED_LIBRARIES:\n");
  const size_t begin = out.length();
  char buffer[4096 + 128];
  LineReader maps(path, buffer, sizeof buffer, kMostMapsBytes);
  for (std::string_view line; maps.next(&line);) {
    const size_t rights = line.find(' ');
    if (rights == std::string_view::npos || line.size() < rights + 4 || line[rights + 3] != 'x')
      continue;
    if (out.length() - begin + line.size() > most_bytes) return;
    out.put(line).put('\n');
  }
}

}  // namespace

size_t render_profile(const Sites& sites, const Labels& labels, const char* maps, char* buffer,
                      size_t cap) noexcept {
  TextWriter out(buffer, cap);
  SiteFigures all{};
  const size_t most_rows = size_t{sites.count()} + 1;
  const size_t rows_bytes = most_rows * sizeof(Row);
  auto* const rows = static_cast<Row*>(os::map_pages(rows_bytes));
  size_t count = 0;
  sites.for_each([&](Sites::Number site) {
    const SiteFigures figures = sites.figures(site);
    add_to(all, figures);
    if (rows != nullptr && count < most_rows && figures.total_bytes > 0)
      rows[count++] = {figures.live_bytes, site};
  });
  out.put("heap profile: ");
  put_figures(out, all);
  out.put(" heapprofile\n");
  std::sort(rows, rows + count, [](const Row& a, const Row& b) {
    return a.live_bytes != b.live_bytes ? a.live_bytes > b.live_bytes : a.site < b.site;
  });
  const size_t maps_bytes = cap / kMostMapsShare;
  size_t shown = 0;
  while (shown < count && out.length() + 2 * kMostLineBytes + 2 * maps_bytes < cap)
    put_site(out, sites, rows[shown++].site);
  if (shown < count) {
    SiteFigures rest{};
    for (size_t i = shown; i < count; ++i) add_to(rest, sites.figures(rows[i].site));
    put_figures(out, rest);
    put_address(out, kOtherSites);
    out.put('\n');
  }
  put_maps(out, maps, maps_bytes - 64);
  put_labels(out, sites, labels, rows, shown, maps_bytes - 64);
  if (rows != nullptr) os::unmap_pages(rows, rows_bytes);
  if (out.truncated()) out.drop_partial_line();
  return out.length();
}

}  // namespace memlimit::profile
