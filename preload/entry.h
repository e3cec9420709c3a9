/* What every entry point does around the backing allocator: count, and one branch to the slow path.
 * Shared by malloc.cc and new.cc; knows neither glibc's nor C++'s rules.
 */
#pragma once

#include <cstddef>

#include "account.h"
#include "backing.h"
#include "slow_path.h"

namespace memlimit::entry {

/** Counts a fresh block; nullptr passes through uncounted. */
MEMLIMIT_ALWAYS_INLINE void* counted(void* block) noexcept {
  const size_t usable_bytes = backing::usable_bytes(block);
  if (MEMLIMIT_UNLIKELY(account::count_allocated(usable_bytes))) {
    return slow::allocated(block, usable_bytes);
  }
  return block;
}

/** nullptr when there is no memory; errno is then the caller's business. */
MEMLIMIT_ALWAYS_INLINE void* allocate(size_t bytes) noexcept {
  void* const block = backing::allocate(bytes);
  if (MEMLIMIT_UNLIKELY(block == nullptr)) return nullptr;
  return counted(block);
}

MEMLIMIT_ALWAYS_INLINE void* allocate_aligned(size_t alignment, size_t bytes) noexcept {
  void* const block = backing::allocate_aligned(alignment, bytes);
  if (MEMLIMIT_UNLIKELY(block == nullptr)) return nullptr;
  return counted(block);
}

/** nullptr is fine, and costs no branch: it has 0 usable bytes and mimalloc ignores it. */
MEMLIMIT_ALWAYS_INLINE void release(void* block) noexcept {
  const size_t usable_bytes = backing::usable_bytes(block);
  if (MEMLIMIT_UNLIKELY(account::count_freed(usable_bytes))) {
    slow::freed(block, usable_bytes);
    return;
  }
  backing::release(block);
}

}  // namespace memlimit::entry
