/* Records that are met again and again, each once: hash chains over one mapping of a fixed size, which only grows.
 *
 * Numbers stand for records for as long as the process lives, so whoever has one uses it without a lock. A record begins with a
 * ChainLink; what follows is its owner's.
 *
 * Threads: any. No locks: a child of fork finds a table that is whole. Context: in malloc, in a signal handler. Allocates
 * nothing after open().
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "system/os.h"

namespace memlimit::profile {

struct ChainLink {
  uint32_t next;
  uint64_t hash;
};

class Chains {
 public:
  static constexpr uint32_t kNone = 0;
  static constexpr size_t kHeads = 4096;
  static constexpr size_t kUnit = 8; /* numbers are offsets in these */

  /** Once. The first so many bytes behind the heads are the caller's. false: no memory. */
  bool open(size_t table_bytes, size_t own_bytes = 0) noexcept {
    auto* const table = static_cast<char*>(os::map_pages(table_bytes));
    if (table == nullptr) return false;
    table_bytes_ = table_bytes;
    used_.store(kHeads * sizeof(uint32_t) + own_bytes, std::memory_order_relaxed);
    base_ = table;
    return true;
  }

  bool is_open() const noexcept { return base_ != nullptr; }
  char* own() const noexcept { return base_ + kHeads * sizeof(uint32_t); }
  char* at(uint32_t number) const noexcept { return base_ + size_t{number} * kUnit; }

  /** The record with that hash for which `same` is true; else a new one of so many bytes, which `fill` fills in behind its
   *  link. kNone: there is no room. `*added`: it is a new one. */
  template <typename Same, typename Fill>
  uint32_t find_or_add(uint64_t hash, size_t bytes, Same same, Fill fill, bool* added) noexcept {
    *added = false;
    std::atomic<uint32_t>& first = head(hash % kHeads);
    // Acquire: a record is filled in before it is seen.
    uint32_t seen = first.load(std::memory_order_acquire);
    if (const uint32_t found = search(seen, kNone, hash, same); found != kNone) return found;
    const size_t whole = (bytes + kUnit - 1) & ~(kUnit - 1);
    size_t offset = used_.load(std::memory_order_relaxed);
    do {
      if (offset + whole > table_bytes_) return kNone;
    } while (!used_.compare_exchange_weak(offset, offset + whole, std::memory_order_relaxed));
    const auto number = static_cast<uint32_t>(offset / kUnit);
    ChainLink& link = link_of(number);
    link.hash = hash;
    fill(at(number));
    uint32_t before = seen;
    do {
      // Another thread was faster, perhaps with the same: then this room is lost.
      if (const uint32_t found = search(seen, before, hash, same); found != kNone) return found;
      before = seen;
      link.next = seen;
    } while (!first.compare_exchange_weak(seen, number, std::memory_order_release,
                                          std::memory_order_acquire));
    *added = true;
    return number;
  }

  template <typename Visit>
  void for_each(Visit visit) const noexcept {
    for (size_t i = 0; is_open() && i < kHeads; ++i) {
      for (uint32_t number = head(i).load(std::memory_order_acquire); number != kNone;
           number = link_of(number).next)
        visit(number);
    }
  }

 private:
  ChainLink& link_of(uint32_t number) const noexcept {
    return *reinterpret_cast<ChainLink*>(at(number));
  }
  std::atomic<uint32_t>& head(size_t index) const noexcept {
    return reinterpret_cast<std::atomic<uint32_t>*>(base_)[index];
  }

  template <typename Same>
  uint32_t search(uint32_t from, uint32_t to, uint64_t hash, Same same) const noexcept {
    for (uint32_t number = from; number != to; number = link_of(number).next) {
      if (link_of(number).hash == hash && same(at(number))) return number;
    }
    return kNone;
  }

  char* base_ = nullptr;
  size_t table_bytes_ = 0;
  std::atomic<size_t> used_{0};
};

}  // namespace memlimit::profile
