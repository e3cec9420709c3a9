/* The calling thread's stack, as the addresses that its frames return to: taken inside malloc, in somebody's process.
 *
 * Frames are left by the call-frame information of the image that they belong to, which glibc finds without a lock
 * (_dl_find_object, from 2.35 on). Code that has none (of a just-in-time compiler) is left by the frame pointer where that is
 * plausible, or ends the walk. Stack memory is asked for before it is read, a page at a time. What an address needs is kept in
 * a table that all threads share.
 *
 * Threads: any. Context: in malloc, in a signal handler. No locks; allocates nothing.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

struct dl_find_object;

namespace memlimit::profile {

inline constexpr int kMaxFrames = 64;

/** What addresses need, as far as they were met: all zero to begin with. Torn entries are told by their sum. `loads`: how often
 *  libraries were loaded; what was kept under another number is not found, since another image may lie there. */
class FrameRules {
 public:
  bool find(uintptr_t address, uint32_t loads, uint64_t* packed) const noexcept;
  void keep(uintptr_t address, uint32_t loads, uint64_t packed) noexcept;

 private:
  struct Entry {
    std::atomic<uint64_t> mixed; /* address and number, exclusive or the rule */
    std::atomic<uint64_t> rule;
  };
  /* Pairs: a new entry takes the first place, and what was there the second. Of python's a thousand frames 128 KiB keep all. */
  static constexpr unsigned kPairsShift = 12;
  /* Addresses end below 2^48. */
  static uint64_t key_of(uintptr_t address, uint32_t loads) noexcept {
    return address ^ uint64_t { loads } << 48;
  }
  static size_t place_of(uintptr_t address) noexcept {
    return address * 0x9e3779b97f4a7c15 >> (64 - kPairsShift);
  }
  struct Pair {
    Entry entries[2];
  };
  Pair pairs_[size_t{1} << kPairsShift];
};

/** Addresses [begin, end). */
struct CodeRange {
  uintptr_t begin, end;
};

/** Where the image lies that this code is in; false: it cannot be found out. */
bool own_image(CodeRange* out) noexcept;

/** Whether this libc lets frames be found. */
bool can_walk_stack() noexcept;

/** glibc's _dl_find_object(); nullptr: this libc has none. For a library that is not linked with it. Before any walk. */
using ObjectFinder = int (*)(void* address, dl_find_object* out) noexcept;
void set_object_finder(ObjectFinder finder) noexcept;

/** Return addresses, innermost first, at most `cap`; returns how many. The first frames are left out as long as they return to
 *  that range. */
int walk_stack(FrameRules& rules, const CodeRange& left_out, uint32_t loads, uintptr_t* out,
               int cap) noexcept;

}  // namespace memlimit::profile
