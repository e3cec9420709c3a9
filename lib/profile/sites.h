/* Allocation sites: each stack that was met, once, and what was allocated there.
 *
 * Sites are never removed. A stack that finds no room is counted under kNoSite.
 *
 * Threads, context: as chains.h has them.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "profile/chains.h"

namespace memlimit::profile {

/** What is known of a site. Bytes and blocks are estimates of all, made of the samples. */
struct SiteFigures {
  uint64_t live_bytes, live_blocks;
  uint64_t total_bytes, total_blocks; /* allocated, ever */
};

class Sites {
 public:
  using Number = uint32_t;
  static constexpr Number kNoSite = Chains::kNone;
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
    if (!chains_.is_open()) return;
    visit(kNoSite);
    chains_.for_each(visit);
  }

 private:
  struct Site;
  Site& at(Number site) const noexcept;

  Chains chains_;
  std::atomic<uint32_t> count_{0};
};

}  // namespace memlimit::profile
