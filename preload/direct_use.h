/* Libraries and programs that use mimalloc by its own names, beside malloc.
 *
 * Three shortcuts rest on nobody doing that: only the first block of a page is looked at (block_size.h), a thread has one
 * heap and what lies between that heap's pages is idle (idle_pages.h), and a block that was freed may be kept
 * (recycled_blocks.h). Once somebody is seen who does, they are off for good.
 *
 * Seen are objects that are linked with libmimalloc, and calls of mi_heap_new() from anywhere. Who is loaded later is seen
 * some time after that; until then no size of a block is believed that memory depends on.
 * Threads: all.
 */
#pragma once

#include <cstddef>

#include "dlopen.h"
#include "system/attributes.h"

struct dl_phdr_info;

namespace memlimit::direct_use {

/** Somebody does. No locks. */
void noticed() noexcept;

/** Looks at a loaded object; for dl_iterate_phdr(), which it lets go on. No locks of its own. */
int look_at_object(dl_phdr_info* info, size_t size, void* ignored) noexcept;

/** Whether a library has been loaded since the start, which may use the allocator unseen. A load. */
MEMLIMIT_ALWAYS_INLINE bool is_possible() noexcept {
  return memlimit_loader_calls.load(std::memory_order_relaxed) != 0;
}

}  // namespace memlimit::direct_use
