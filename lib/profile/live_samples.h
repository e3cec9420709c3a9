/* The sampled blocks that are alive, by their address.
 *
 * Buckets of eight, in tables of which each is four times as large as the one before: a block is kept in the first that has
 * room in its bucket, and is looked for in each. So nothing is ever moved, and a small program touches a few pages.
 *
 * Threads: any. No locks: who frees a block has it from whoever inserted it, and nobody else asks for its address meanwhile.
 * Context: in malloc, in a signal handler. A table is mapped when the ones before are full.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace memlimit::profile {

struct LiveSample {
  uint32_t site;
  uint64_t block_bytes;
  uint64_t bytes; /* that it stands for */
};

class LiveSamples {
 public:
  /** false: there is no room, or no memory. */
  bool insert(const void* block, const LiveSample& sample) noexcept;

  /** false: the block is none of them. */
  bool remove(const void* block, LiveSample* out) noexcept;

  /** How many there are. */
  int64_t count() const noexcept { return count_.load(std::memory_order_relaxed); }

 private:
  struct Slot {
    std::atomic<uintptr_t> block; /* 0: free; the rest belongs to whoever stored the address */
    uint64_t block_bytes, bytes;
    uint32_t site;
  };
  static constexpr unsigned kTables = 6;
  static constexpr size_t kSlotsPerBucket = 8;
  static constexpr unsigned kFirstTableShift = 6; /* of the number of buckets */

  Slot* bucket(unsigned table, Slot* slots, uintptr_t block) const noexcept;
  Slot* table(unsigned index) noexcept;

  std::atomic<Slot*> tables_[kTables]{};
  std::atomic<int64_t> count_{0};
};

}  // namespace memlimit::profile
