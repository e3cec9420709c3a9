/* The names of mallctl: dotted, with numbers where there are several of a kind ("arenas.bin.3.size"), and the same as a
 * row of numbers, a MIB, which programs change the index in and ask again.
 *
 * Pure look-ups in a table of patterns, in which `#` stands for an index. Refuses to know what a name means, and how many
 * there are of a kind: whoever answers does. Threads: any.
 */
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace memlimit::jemalloc {

inline constexpr size_t kMostParts = 7; /* of a name, as in jemalloc */

/** A row's name. Characters, not a pointer to them: the loader has nothing to do for a table of these. */
class Pattern {
 public:
  constexpr Pattern() noexcept = default;
  constexpr explicit Pattern(std::string_view name) noexcept : length_(name.size()) {
    for (size_t i = 0; i < length_; ++i) characters_[i] = name[i];
  }

  constexpr std::string_view name() const noexcept { return {characters_, length_}; }

 private:
  size_t length_ = 0;
  char characters_[40] = {};
};

using Patterns = std::span<const Pattern>;

/** Where a name leads. An index stands in the MIB where the program looks for it: at the place that it has in the name.
 *  Of the other numbers the first is the row, the rest are 0. */
struct Place {
  size_t row;   /* of the table */
  size_t depth; /* how many parts the name has */
  std::array<size_t, kMostParts> mib;
};

/** The row with just that name. */
std::optional<Place> find(Patterns patterns, std::string_view name) noexcept;

/** The first row whose name is this one, or goes on after it ("arenas.bin"). */
std::optional<Place> find_beginning(Patterns patterns, std::string_view name) noexcept;

/** The row of a MIB, if that is whole. */
std::optional<Place> find_mib(Patterns patterns, std::span<const size_t> mib) noexcept;

}  // namespace memlimit::jemalloc
