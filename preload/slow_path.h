/* The cold halves of the entry points: a counter that ran out, a page not seen before, sizes beyond the
 * table, memory that is out. Where memory is out, nullptr is returned and errno is ENOMEM, as malloc has
 * it; else errno is as it was.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "system/attributes.h"

namespace memlimit::slow {

/** Whether a block is to be filled with zeros. */
enum class Fill : bool { kNone, kZero };

/** The block was counted and the thread must look up: publishes, and may begin a round. Returns `block`. */
MEMLIMIT_COLD void* allocated(void* block, size_t block_bytes) noexcept;

/** A block of that size was counted, but not made yet, and the thread must look up: makes it or takes one that is
 *  kept (recycled_blocks.h), publishes, and may begin a round. */
MEMLIMIT_COLD void* allocate_counted(size_t block_bytes, Fill fill) noexcept;

/** The slot of a new block that was counted does not say what the table said: a page not seen before, an
 *  allocator that rounds otherwise, or no memory. Puts the count right. */
MEMLIMIT_COLD void* unseen(void* block, size_t counted_bytes) noexcept;

/** Gives back a new block that was not counted. It may have begun a page, whose slot is then written. */
MEMLIMIT_COLD void release_uncounted(void* block) noexcept;

/** Allocates what the table does not cover. */
MEMLIMIT_COLD void* allocate_untabled(size_t bytes, Fill fill) noexcept;

/** alignment: a power of two above the natural one. */
MEMLIMIT_COLD void* allocate_aligned(size_t alignment, size_t bytes) noexcept;

/** count_freed() was told what the block's slot holds, and the thread must look up. Releases the block. */
MEMLIMIT_COLD void freed(void* block, size_t slot_value) noexcept;

}  // namespace memlimit::slow
