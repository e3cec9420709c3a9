/* Frames that are not code of the machine: functions of a language that is interpreted, by name, file and line.
 *
 * Each has a number that stands for its address in a stack: beyond all addresses that a program can have. Labels are never
 * removed. A text that finds no room in the table has the label of all such.
 *
 * Threads, context: as chains.h has them.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "profile/chains.h"

namespace memlimit::profile {

class Labels {
 public:
  static constexpr uintptr_t kFirst = uintptr_t{1} << 63;
  static constexpr size_t kTableBytes = size_t{2} << 20; /* mapped; touched as it fills */
  static constexpr size_t kMostTextBytes = 240;          /* longer texts lose their end */

  /** Once. false: no memory. */
  bool open() noexcept;

  /** The label of a text. kFirst: there is no room. */
  uintptr_t find_or_add(std::string_view text) noexcept;

  /** The text of a label; empty for what is none. */
  std::string_view text(uintptr_t label) const noexcept;

  static constexpr bool is_label(uintptr_t address) noexcept { return address >= kFirst; }

 private:
  struct Label;

  Chains chains_;
};

}  // namespace memlimit::profile
