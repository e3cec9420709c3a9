/* See figures.h. */
#include "heap/figures.h"

#include <bit>

#include "heap/huge.h"
#include "heap/large.h"
#include "heap/region.h"
#include "heap/span.h"

namespace memlimit::heap::figures {
namespace {

void add_taken(const ThreadCache& cache, HeapFigures& sum) noexcept {
  sum.taken_bytes += cache.taken_bytes.load(std::memory_order_relaxed);
  sum.allocated_bytes += cache.large_allocated_bytes.load(std::memory_order_relaxed);
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    sum.allocated_bytes += cache.pops[i].load(std::memory_order_relaxed) * kClasses[i].block_bytes;
  }
}

}  // namespace

HeapFigures totals() noexcept {
  HeapFigures sum{};
  // What was given back first, in each cache before what lies in its stacks, and of all caches before what was taken: a
  // block that moves meanwhile may be missed on its way back, but is never off twice. Work on other threads can only make
  // the heap look too large.
  sum.returned_bytes += thread_caches::shared.returned_bytes.load(std::memory_order_acquire);
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    sum.returned_bytes += cache->returned_bytes.load(std::memory_order_acquire);
    sum.lost_bytes += cache->lost_bytes.load(std::memory_order_relaxed);
    sum.cached_bytes += cache->cached_bytes();
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  // From the beginning of the list: a cache that came meanwhile may have taken what one of the above has returned.
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    add_taken(*cache, sum);
  }
  const ThreadCache& shared = thread_caches::shared;
  sum.taken_bytes += shared.taken_bytes.load(std::memory_order_relaxed);
  sum.allocated_bytes += shared.large_allocated_bytes.load(std::memory_order_relaxed);
  sum.large_bytes = large::run_bytes();
  sum.huge_bytes = huge::live_bytes();
  sum.region_bytes = regions::mapped_bytes();
  sum.record_bytes = regions::record_bytes();
  return sum;
}

ClassFigures of_class(unsigned class_index) noexcept {
  ClassFigures sum{};
  const ClassInfo& info = kClasses[class_index];
  sum.block_bytes = info.block_bytes;
  for (uint32_t id = 0, end = regions::count(); id < end; ++id) {
    Region* const region = hints::region(id);
    if (region == nullptr || region->begin() == nullptr) continue;
    for (unsigned slice = 0; slice < kSlicesPerRegion; ++slice) {
      const SpanRef span{region, slice};
      if (span.class_byte().load(std::memory_order_relaxed) != class_index) continue;
      ++sum.spans;
      sum.free_blocks += spans::count_free(span, class_index);
      sum.purged_pages += std::popcount(span.state().purged_pages.load(std::memory_order_relaxed));
    }
  }
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    sum.cached_blocks += cache->stacked(class_index);
  }
  sum.live_blocks = sum.spans * info.blocks - sum.free_blocks - sum.cached_blocks;
  return sum;
}

void for_each_thread(void (*visit)(const ThreadFigures&, void*), void* arg) noexcept {
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    const int32_t tid = cache->owner_tid.load(std::memory_order_relaxed);
    if (tid == 0) continue;
    const auto held = static_cast<int64_t>(cache->taken_bytes.load(std::memory_order_relaxed) -
                                           cache->returned_bytes.load(std::memory_order_relaxed));
    visit({tid, held, static_cast<int64_t>(cache->cached_bytes())}, arg);
  }
}

}  // namespace memlimit::heap::figures
