/* See jemalloc_names.h. */
#include "jemalloc_names.h"

#include <algorithm>

namespace memlimit::jemalloc {
namespace {

constexpr std::string_view kIndex = "#";

/* A name, part by part. The last one has no dot behind it. */
class Parts {
 public:
  explicit Parts(std::string_view name) noexcept : rest_(name) {}

  bool done() const noexcept { return done_; }

  std::string_view next() noexcept {
    const size_t dot = rest_.find('.');
    const std::string_view part = rest_.substr(0, dot);
    done_ = dot == std::string_view::npos;
    rest_.remove_prefix(done_ ? rest_.size() : dot + 1);
    return part;
  }

 private:
  std::string_view rest_;
  bool done_ = false;
};

std::optional<size_t> number_in(std::string_view part) noexcept {
  if (part.empty()) return std::nullopt;
  size_t number = 0;
  for (const char digit : part) {
    if (digit < '0' || digit > '9') return std::nullopt;
    if (__builtin_mul_overflow(number, size_t{10}, &number) ||
        __builtin_add_overflow(number, static_cast<size_t>(digit - '0'), &number))
      return std::nullopt;
  }
  return number;
}

/* Whether the name is what the pattern says or, if that is enough, what it begins with. */
bool matches(std::string_view pattern, std::string_view name, bool beginning,
             Place* place) noexcept {
  Parts wanted(pattern), given(name);
  for (size_t depth = 0; depth < kMostParts; ++depth) {
    const std::string_view want = wanted.next(), part = given.next();
    if (want == kIndex) {
      const std::optional<size_t> index = number_in(part);
      if (!index) return false;
      place->mib[depth] = *index;
    } else if (want != part) {
      return false;
    }
    place->depth = depth + 1;
    if (given.done()) return wanted.done() || beginning;
    if (wanted.done()) return false;
  }
  return false;
}

std::optional<Place> search(Patterns patterns, std::string_view name, bool beginning) noexcept {
  for (size_t row = 0; row < patterns.size(); ++row) {
    Place place{row, 0, {row}};
    if (matches(patterns[row].name(), name, beginning, &place)) return place;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Place> find(Patterns patterns, std::string_view name) noexcept {
  return search(patterns, name, false);
}

std::optional<Place> find_beginning(Patterns patterns, std::string_view name) noexcept {
  return search(patterns, name, true);
}

std::optional<Place> find_mib(Patterns patterns, std::span<const size_t> mib) noexcept {
  if (mib.empty() || mib.size() > kMostParts || mib[0] >= patterns.size()) return std::nullopt;
  Place place{mib[0], mib.size(), {}};
  std::copy(mib.begin(), mib.end(), place.mib.begin());
  Parts wanted(patterns[place.row].name());
  for (size_t depth = 0; depth < mib.size(); ++depth) {
    if (wanted.done()) return std::nullopt;
    if (wanted.next() != kIndex && depth > 0 && mib[depth] != 0) return std::nullopt;
  }
  if (!wanted.done()) return std::nullopt;
  return place;
}

}  // namespace memlimit::jemalloc
