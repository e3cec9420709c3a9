/* See interrupted_frees.h. mimalloc has no call for it, and its structures differ from version to version. What
 * is relied on is the same in all of 2.0 to 2.2, and checked for each page:
 *   - mi_heap_visit_blocks() hands out an area with the page's address behind it (heap.c, mi_heap_area_ex_t);
 *   - a page's structure lies at the beginning of the segment that has its blocks;
 *   - in it, the word before the one that names the heap is the list of blocks freed by others, with the mark
 *     in its two lowest bits (types.h, xthread_free and xheap, mi_delayed_t).
 * Where it is otherwise nothing is written.
 */
#include "interrupted_frees.h"

#include <cstddef>
#include <cstdint>

#include <mimalloc.h>

namespace memlimit::interrupted_frees {
namespace {

constexpr size_t kSegmentBytes = size_t{32} << 20;
/* A page's structure has 10 words in 2.0, 14 in 2.2. */
constexpr size_t kPageWords = 16;

constexpr uintptr_t kDelayBits = 3;
constexpr uintptr_t kUseDelayedFree =
    0; /* the next to free a block of it tells the owner: right for any page */
constexpr uintptr_t kDelayedFreeing = 1;

struct AreaAndPage {
  mi_heap_area_t area;
  uintptr_t* page;
};

bool end_in_page(const mi_heap_t* heap, const mi_heap_area_t* area, void*, size_t, void*) {
  if (area == nullptr || area->blocks == nullptr) return true;
  uintptr_t* const page = reinterpret_cast<const AreaAndPage*>(area)->page;
  const auto at = reinterpret_cast<uintptr_t>(page);
  const auto blocks = reinterpret_cast<uintptr_t>(area->blocks);
  const uintptr_t segment = blocks / kSegmentBytes * kSegmentBytes;
  if (at % sizeof(uintptr_t) != 0 || at < segment || at + kPageWords * sizeof(uintptr_t) > blocks)
    return true;
  size_t owner = 1;
  while (owner < kPageWords && page[owner] != reinterpret_cast<uintptr_t>(heap)) ++owner;
  if (owner == kPageWords) return true;
  uintptr_t& freed_by_others = page[owner - 1];
  if ((freed_by_others & kDelayBits) == kDelayedFreeing) {
    freed_by_others = (freed_by_others & ~kDelayBits) | kUseDelayedFree;
  }
  return true;
}

}  // namespace

void end_after_fork() noexcept {
  const int version = mi_version();
  if (version < 200 || version >= 300) return;
  mi_heap_t* const heap = mi_heap_get_default();
  mi_heap_visit_blocks(heap, false, end_in_page, nullptr);
}

}  // namespace memlimit::interrupted_frees
