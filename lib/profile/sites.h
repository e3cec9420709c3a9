/* Allocation sites: each stack that was met, once, and what was allocated there.
 *
 * Sites are never removed, so that whoever has one's number may use it without a lock. They lie one after the other in one
 * mapping of a fixed size; a stack that finds no room there is counted under kNoSite.
 *
 * Threads: any. No locks: a child of fork finds a table that is whole. Context: in malloc, in a signal handler. Allocates
 * nothing after open().
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace memlimit::profile {

/** What is known of a site. Bytes and blocks are estimates of all, made of the samples. */
struct SiteFigures {
  uint64_t live_bytes, live_blocks;
  uint64_t total_bytes, total_blocks; /* allocated, ever */
};

class Sites {
 public:
  using Number = uint32_t;
  static constexpr Number kNoSite = 0;
  static constexpr size_t kTableBytes = size_t{4} << 20; /* mapped; touched as it fills */

  /** Once. false: no memory. */
  bool open() noexcept;

  /** The site of a stack: of at least one frame. kNoSite when the table is full. */
  Number find_or_add(const uintptr_t* frames, int depth) noexcept;

  /** A block that stands for so many bytes came, or went. */
  void add(Number site, uint64_t bytes, uint64_t block_bytes) noexcept;
  void remove(Number site, uint64_t bytes, uint64_t block_bytes) noexcept;

  SiteFigures figures(Number site) const noexcept;
  /** Its frames, innermost first; returns how many. */
  int frames(Number site, const uintptr_t** out) const noexcept;

  /** How many there are. */
  uint32_t count() const noexcept { return count_.load(std::memory_order_relaxed); }

  /** Visits each, kNoSite too. */
  template <typename Visit>
  void for_each(Visit visit) const noexcept {
    if (base_ == nullptr) return;
    visit(kNoSite);
    for (size_t i = 0; i < kHeads; ++i) {
      for (Number site = head(i).load(std::memory_order_acquire); site != kNoSite;
           site = next_of(site))
        visit(site);
    }
  }

 private:
  struct Site;
  static constexpr size_t kHeads = 4096;
  static constexpr size_t kUnit = 8; /* numbers are offsets in these */

  Site& at(Number site) const noexcept;
  std::atomic<Number>& head(size_t index) const noexcept {
    return reinterpret_cast<std::atomic<Number>*>(base_)[index];
  }
  Number next_of(Number site) const noexcept;
  Number search(Number from, Number to, uint64_t hash, const uintptr_t* frames,
                int depth) const noexcept;

  char* base_ = nullptr;
  std::atomic<size_t> used_{0};
  std::atomic<uint32_t> count_{0};
};

}  // namespace memlimit::profile
