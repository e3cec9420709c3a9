#include "settings/spelling.h"

#include <cstdint>

namespace memlimit {
namespace {

constexpr size_t kMaxWord = 32;

constexpr char to_lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/** Levenshtein's distance, letter case ignored; one row of the table, on the stack. */
size_t edit_distance(std::string_view a, std::string_view b) noexcept {
  size_t row[kMaxWord + 1] = {};
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (to_lower(a[i - 1]) == to_lower(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      const size_t removed = row[j] + 1, added = row[j - 1] + 1;
      row[j] = removed < added ? removed : added;
      if (replaced < row[j]) row[j] = replaced;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view nearest(std::string_view text, const std::string_view* candidates,
                         size_t count) noexcept {
  if (text.size() > kMaxWord) return {};
  std::string_view best;
  size_t best_distance = SIZE_MAX;
  for (size_t i = 0; i < count; ++i) {
    const std::string_view candidate = candidates[i];
    if (candidate.size() > kMaxWord) continue;
    const size_t distance = edit_distance(text, candidate);
    // A third of the word may be wrong; more is another word.
    if (distance * 3 <= candidate.size() && distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string_view nearest(std::string_view text,
                         std::initializer_list<std::string_view> candidates) noexcept {
  return nearest(text, candidates.begin(), candidates.size());
}

}  // namespace memlimit
