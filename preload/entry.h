/* What every entry point does around the backing allocator: know the block's size, count it, and one
 * branch to the slow path. Shared by malloc.cc and new.cc; knows neither glibc's nor C++'s rules.
 */
#pragma once

#include <cassert>
#include <cstddef>
#include <type_traits>

#include "backing.h"
#include "block_size.h"
#include "direct_use.h"
#include "engine/account.h"
#include "slow_path.h"

namespace memlimit::entry {

using slow::Fill;

static_assert(block_size::kSmallBytes == backing::kSmallBytes);

/** Counts a new block of the size the table says, or leaves the fast path. */
MEMLIMIT_ALWAYS_INLINE void* counted(void* block, size_t block_bytes) noexcept {
  // nullptr's slot holds 0, which no entry of the table is: no test of its own.
  const size_t seen = block_size::slot_of(block).load(std::memory_order_relaxed);
  const bool exhausted = account::count_allocated(block_bytes);
  if (MEMLIMIT_UNLIKELY(seen != block_bytes)) return slow::unseen(block, block_bytes);
  if (MEMLIMIT_UNLIKELY(exhausted)) return slow::allocated(block, block_bytes);
  return block;
}

/** A block that was counted and may be the first of its page; or nullptr. */
__attribute__((noinline)) inline void* look_at(void* block, size_t block_bytes) noexcept {
  // nullptr's slot holds 0, which no entry of the table is: no test of its own.
  const size_t seen = block_size::slot_of(block).load(std::memory_order_relaxed);
  if (MEMLIMIT_LIKELY(seen == block_bytes)) return block;
  return slow::unseen(block, block_bytes);
}

/** Requests beyond the allocator's own fast path. */
template <Fill kFill>
__attribute__((noinline)) inline void* allocate_larger(size_t bytes) noexcept {
  const size_t index = block_size::table_index(bytes);
  if (MEMLIMIT_UNLIKELY(index >= block_size::kTableEntries)) {
    return slow::allocate_untabled(bytes, kFill);
  }
  const size_t block_bytes = block_size::of_table_entry(index);
  if (MEMLIMIT_UNLIKELY(account::count_allocated(block_bytes))) {
    return slow::allocate_counted(block_bytes, kFill);
  }
  return look_at(kFill == Fill::kZero ? backing::allocate_rounded_zeroed(block_bytes)
                                      : backing::allocate_rounded(block_bytes),
                 block_bytes);
}

/** Where allocate() leaves its fast path. Each returns the block, or nullptr with errno set. */
template <Fill kFill>
struct Leave {
  static void* larger(size_t bytes) noexcept { return allocate_larger<kFill>(bytes); }
  static void* exhausted(size_t block_bytes) noexcept {
    return slow::allocate_counted(block_bytes, kFill);
  }
  static void* may_begin_page(void* block, size_t block_bytes) noexcept {
    return look_at(block, block_bytes);
  }
};

/**
 * Returns a block, or what LeaveTo returns. A block is counted before it is made: then nothing but its
 * size must be kept over the call, and what is rare has not begun when it is left to somebody else.
 */
template <Fill kFill = Fill::kNone, typename LeaveTo = Leave<kFill>>
MEMLIMIT_ALWAYS_INLINE void* allocate(size_t bytes) noexcept(
    std::is_same_v<LeaveTo, Leave<kFill>>) {
  if (MEMLIMIT_UNLIKELY(bytes > block_size::kSmallBytes)) return LeaveTo::larger(bytes);
  const size_t block_bytes = block_size::of_small_request(bytes);
  if (MEMLIMIT_UNLIKELY(account::count_allocated(block_bytes))) {
    return LeaveTo::exhausted(block_bytes);
  }
  void* const block = kFill == Fill::kZero ? backing::allocate_small_zeroed(block_bytes)
                                           : backing::allocate_small(block_bytes);
  // nullptr too: its offset is 0.
  if (MEMLIMIT_UNLIKELY(block_size::may_begin_page(block))) {
    return LeaveTo::may_begin_page(block, block_bytes);
  }
  return block;
}

/** alignment: a power of two. */
MEMLIMIT_ALWAYS_INLINE void* allocate_aligned(size_t alignment, size_t bytes) noexcept {
  if (alignment <= backing::kNaturalAlignment) return allocate(bytes);
  const size_t mask = alignment - 1;
  const size_t index = block_size::table_index((bytes + mask) & ~mask);
  if (MEMLIMIT_LIKELY(index < block_size::kTableEntries && bytes <= block_size::kTableMaxBytes)) {
    const size_t block_bytes = block_size::of_table_entry(index);
    if (block_size::naturally_aligned(block_bytes, alignment)) {
      void* const block = backing::allocate_rounded(block_bytes);
      if (MEMLIMIT_LIKELY((reinterpret_cast<uintptr_t>(block) & mask) == 0)) {
        return counted(block, block_bytes);
      }
      slow::release_uncounted(block);
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

/** Bytes the program may use; 0 for nullptr. The slot is not asked where it may be wrong: the program writes so far. */
MEMLIMIT_ALWAYS_INLINE size_t usable_bytes(const void* block) noexcept {
  const uint32_t seen = block_size::slot_of(block).load(std::memory_order_relaxed);
  const bool known = seen != 0 && (seen & block_size::kAskAllocator) == 0;
  if (MEMLIMIT_LIKELY(known && !direct_use::is_possible())) return seen;
  return backing::usable_bytes(block);
}

}  // namespace memlimit::entry
