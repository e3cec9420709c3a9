/* What every entry point does around the backing allocator: know the block's size, count it, and one
 * branch to the slow path. Shared by malloc.cc and new.cc; knows neither glibc's nor C++'s rules.
 */
#pragma once

#include <cassert>
#include <cstddef>

#include "account.h"
#include "backing.h"
#include "block_size.h"
#include "slow_path.h"

namespace memlimit::entry {

using slow::Fill;

/** Counts a new block of an entry of the table, or leaves the fast path. */
MEMLIMIT_ALWAYS_INLINE void* counted(void* block, size_t block_bytes) noexcept {
  // nullptr's slot holds 0, which no entry of the table is: no test of its own.
  const size_t seen = block_size::slot_of(block).load(std::memory_order_relaxed);
  if (MEMLIMIT_UNLIKELY(seen != block_bytes)) return slow::allocated_unseen(block, block_bytes);
  if (MEMLIMIT_UNLIKELY(account::count_allocated(block_bytes))) {
    return slow::allocated(block, block_bytes);
  }
  return block;
}

/** Requests beyond the allocator's own fast path, and what the table does not cover. */
template <Fill kFill>
__attribute__((noinline)) inline void* allocate_larger(size_t bytes) noexcept {
  const size_t index = block_size::table_index(bytes);
  if (MEMLIMIT_UNLIKELY(index >= block_size::kTableEntries)) {
    return slow::allocate_untabled(bytes, kFill);
  }
  const size_t block_bytes = block_size::table[index].load(std::memory_order_relaxed);
  return counted(kFill == Fill::kZero ? backing::allocate_rounded_zeroed(block_bytes)
                                      : backing::allocate_rounded(block_bytes),
                 block_bytes);
}

/** nullptr when there is no memory, with errno set. */
template <Fill kFill = Fill::kNone>
MEMLIMIT_ALWAYS_INLINE void* allocate(size_t bytes) noexcept {
  constexpr size_t kSmallEntries = backing::kSmallBytes / block_size::kTableStep;
  const size_t index = block_size::table_index(bytes);
  if (MEMLIMIT_UNLIKELY(index >= kSmallEntries)) return allocate_larger<kFill>(bytes);
  const size_t block_bytes = block_size::table[index].load(std::memory_order_relaxed);
  return counted(kFill == Fill::kZero ? backing::allocate_small_zeroed(block_bytes)
                                      : backing::allocate_small(block_bytes),
                 block_bytes);
}

/** alignment: a power of two. */
MEMLIMIT_ALWAYS_INLINE void* allocate_aligned(size_t alignment, size_t bytes) noexcept {
  if (alignment <= backing::kNaturalAlignment) return allocate(bytes);
  const size_t mask = alignment - 1;
  const size_t index = block_size::table_index((bytes + mask) & ~mask);
  if (MEMLIMIT_LIKELY(index < block_size::kTableEntries && bytes <= block_size::kTableMaxBytes)) {
    const size_t block_bytes = block_size::table[index].load(std::memory_order_relaxed);
    if (block_size::naturally_aligned(block_bytes, alignment)) {
      void* const block = backing::allocate_rounded(block_bytes);
      if (MEMLIMIT_LIKELY((reinterpret_cast<uintptr_t>(block) & mask) == 0)) {
        return counted(block, block_bytes);
      }
      backing::release(block);
    }
  }
  return slow::allocate_aligned(alignment, bytes);
}

/** nullptr is fine, and costs no branch: its slot says 0 bytes and mimalloc ignores it. */
MEMLIMIT_ALWAYS_INLINE void release(void* block) noexcept {
  const size_t block_bytes = block_size::slot_of(block).load(std::memory_order_relaxed);
  assert((block_bytes & block_size::kAskAllocator) != 0 ||
         block_bytes == backing::usable_bytes(block));
  if (MEMLIMIT_UNLIKELY(account::count_freed(block_bytes))) {
    slow::freed(block, block_bytes);
    return;
  }
  backing::release(block);
}

/** Bytes the program may use; 0 for nullptr. */
MEMLIMIT_ALWAYS_INLINE size_t usable_bytes(const void* block) noexcept {
  const uint32_t seen = block_size::slot_of(block).load(std::memory_order_relaxed);
  if (MEMLIMIT_LIKELY(seen != 0 && (seen & block_size::kAskAllocator) == 0)) return seen;
  return backing::usable_bytes(block);
}

}  // namespace memlimit::entry
