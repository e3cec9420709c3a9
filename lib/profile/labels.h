/* Frames that are not code of the machine: functions of a language that is interpreted, by name, file and line.
 *
 * Each has a number that stands for its address in a stack: beyond all addresses that a program can have. Labels are never
 * removed. A text that finds no room in the table has the label of all such.
 *
 * Threads: any. No locks. Context: in malloc, in a signal handler. Allocates nothing after open().
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

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
  static constexpr size_t kHeads = 4096;
  static constexpr size_t kUnit = 8;

  Label& at(uint32_t number) const noexcept;
  std::atomic<uint32_t>& head(size_t index) const noexcept {
    return reinterpret_cast<std::atomic<uint32_t>*>(base_)[index];
  }
  uint32_t search(uint32_t from, uint32_t to, uint64_t hash, std::string_view text) const noexcept;

  char* base_ = nullptr;
  std::atomic<size_t> used_{0};
};

}  // namespace memlimit::profile
