/* Cold halves of the entry points; see slow_path.h. Runs on the program's threads, inside malloc and
 * free, and allocates nothing through the entry points. */
#include "slow_path.h"

#include <cerrno>
#include <cstring>

#include "backing.h"
#include "block_size.h"
#include "direct_use.h"
#include "engine/account.h"
#include "engine/look.h"
#include "engine/thread_state.h"
#include "recycled_blocks.h"
#include "system/os.h"

namespace memlimit::slow {
namespace {

void* no_memory() noexcept {
  errno = ENOMEM;
  return nullptr;
}

void* fresh(size_t bytes, Fill fill) noexcept {
  return fill == Fill::kZero ? backing::allocate_zeroed(bytes) : backing::allocate(bytes);
}

/* Counts a block whose size remember() has found; 0 means that it may not be handed out. */
void* counted(void* block, size_t usable_bytes) noexcept {
  if (usable_bytes == 0) {
    backing::release(block);
    return no_memory();
  }
  return account::count_allocated(usable_bytes) ? allocated(block, usable_bytes) : block;
}

/* Whether a block begins where one of the allocator's does, and has the size that its slot says: memory depends on it. */
bool slot_is_right(const void* block, size_t slot_value) noexcept {
  if ((slot_value & block_size::kAskAllocator) != 0) return false;
  return !direct_use::is_possible() || backing::usable_bytes(block) == slot_value;
}

constexpr size_t kMostNaturalAlignment = size_t{1} << block_size::kSliceShift;

/* The block size that makes blocks aligned by nature, 0 when there is none. */
size_t naturally_aligned_bytes(size_t alignment, size_t bytes) noexcept {
  if (alignment > kMostNaturalAlignment || bytes > PTRDIFF_MAX - alignment) return 0;
  const size_t rounded = bytes == 0 ? alignment : (bytes + alignment - 1) & ~(alignment - 1);
  const size_t block_bytes = backing::good_size(rounded);
  return block_size::naturally_aligned(block_bytes, alignment) ? block_bytes : 0;
}

}  // namespace

void* allocated(void* block, size_t block_bytes) noexcept {
  if (this_thread.looks_at_every_allocation && !account::publish_is_due()) return block;
  os::ErrnoGuard guard;
  account::look_at_every_allocation(recycled_blocks::worth_asking());
  account::publish_allocated(block_bytes);
  look::after_allocation(static_cast<int64_t>(block_bytes));
  return block;
}

void* allocate_counted(size_t block_bytes, Fill fill) noexcept {
  if (this_thread.looks_at_every_allocation) {
    if (void* const kept = recycled_blocks::take(block_bytes)) {
      if (fill == Fill::kZero) memset(kept, 0, block_bytes);
      return allocated(kept, block_bytes);
    }
  }
  void* const block = fresh(block_bytes, fill);
  const size_t seen = block_size::slot_of(block).load(std::memory_order_relaxed);
  return seen == block_bytes ? allocated(block, block_bytes) : unseen(block, block_bytes);
}

void* unseen(void* block, size_t counted_bytes) noexcept {
  const size_t usable_bytes = block == nullptr ? 0 : block_size::remember(block);
  if (MEMLIMIT_LIKELY(usable_bytes == counted_bytes)) {
    return account::allowance_left() ? block : allocated(block, counted_bytes);
  }
  account::uncount_allocated(counted_bytes);
  if (block == nullptr) return no_memory();
  if (usable_bytes != 0) block_size::correct(counted_bytes, usable_bytes);
  return counted(block, usable_bytes);
}

void release_uncounted(void* block) noexcept {
  block_size::remember(block);
  backing::release(block);
}

void* allocate_untabled(size_t bytes, Fill fill) noexcept {
  void* const block = fresh(bytes, fill);
  if (block == nullptr) return no_memory();
  return counted(block, block_size::remember(block));
}

void* allocate_aligned(size_t alignment, size_t bytes) noexcept {
  if (const size_t natural_bytes = naturally_aligned_bytes(alignment, bytes)) {
    void* const block = backing::allocate(natural_bytes);
    if (block == nullptr) return no_memory();
    if (reinterpret_cast<uintptr_t>(block) % alignment == 0) {
      return counted(block, block_size::remember(block));
    }
    release_uncounted(block);
  }
  void* const block = backing::allocate_aligned(alignment, bytes);
  if (block == nullptr) return no_memory();
  return counted(block, block_size::remember_aligned(block));
}

void freed(void* block, size_t slot_value) noexcept {
  const bool kept = this_thread.looks_at_every_free && slot_is_right(block, slot_value) &&
                    recycled_blocks::keep(block, slot_value);
  if (kept && !account::publish_is_due()) return;
  os::ErrnoGuard guard;
  size_t bytes = slot_value;
  if ((slot_value & block_size::kAskAllocator) != 0) {
    bytes = backing::usable_bytes(block);
    if (!account::recount_freed(bytes)) {
      backing::release(block);
      return;
    }
  }
  if (!kept) backing::release(block);
  if (this_thread.looks_at_every_free && !account::publish_is_due()) return;
  // Here, too: a thread that frees as much as it allocates is done with a quantum here first.
  if (this_thread.looks_at_every_allocation) {
    account::look_at_every_allocation(recycled_blocks::worth_asking());
  }
  account::publish_freed(bytes);
  look::after_free();
}

}  // namespace memlimit::slow
