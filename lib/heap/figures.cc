/* See figures.h. */
#include "heap/figures.h"

#include <algorithm>
#include <bit>

#include "heap/large.h"
#include "heap/region.h"
#include "heap/span.h"

namespace memlimit::heap::figures {
namespace {

/* Adds what the owner has given back, and returns what it has freed: nobody counts that, but it follows from the rest. In
 * this order, each after what its owner writes later (heap.h, transfer.cc): while the owner works it is rather too little
 * than too much. */
uint64_t add_cache(const ThreadCache& cache, HeapFigures& sum) noexcept {
  const uint64_t allocated = cache.allocated_bytes();
  const uint64_t returned = cache.returned_bytes.load(std::memory_order_acquire);
  // What threads without a cache share has no stacks.
  const uint64_t cached = &cache == &thread_caches::shared ? 0 : cache.cached_bytes();
  std::atomic_thread_fence(std::memory_order_acquire);
  const uint64_t taken = cache.taken_bytes.load(std::memory_order_relaxed);
  const uint64_t lost = cache.lost_bytes.load(std::memory_order_relaxed);
  sum.returned_bytes += returned;
  sum.cached_bytes += cached;
  sum.lost_bytes += lost;
  sum.record_bytes += sizeof cache;
  return allocated - taken + returned + cached + lost;
}

void add_taken(const ThreadCache& cache, HeapFigures& sum) noexcept {
  sum.taken_bytes += cache.taken_bytes.load(std::memory_order_relaxed);
  sum.allocated_bytes += cache.allocated_bytes();
}

/* The record of a chunk that was given back still names where it was; somebody else may be there. */
bool is_mapped(const Region* region) noexcept {
  return region != nullptr && region->begin() != nullptr && region_at(region->begin()) == region;
}

void add_span(SpanRef span, unsigned class_index, ClassFigures& sum) noexcept {
  const ClassInfo& info = kClasses[class_index];
  const SliceState& state = span.state();
  const int64_t free_blocks = spans::count_free(span, class_index);
  const int purged = std::popcount(state.purged_pages.load(std::memory_order_relaxed));
  ++sum.spans;
  sum.free_blocks += free_blocks;
  sum.purged_pages += purged;
  if (state.freed.load(std::memory_order_relaxed) == 0) return;
  const int64_t rest = int64_t{kSliceBytes} - int64_t{info.blocks} * info.block_bytes;
  sum.purgeable_bytes += std::min(free_blocks * info.block_bytes + rest,
                                  int64_t{kPageBytes} * (int{kPagesPerSlice} - purged));
}

void add_run(const SliceState& state, ClassFigures& sum) noexcept {
  ++sum.live_blocks;
  sum.spans += state.run_slices.load(std::memory_order_relaxed);
  sum.live_bytes += int64_t{state.run_pages.load(std::memory_order_relaxed)} << kPageShift;
}

void add_region(Region& region, ClassFigures (&out)[kBins]) noexcept {
  for (unsigned slice = 0; slice < kSlicesPerRegion; ++slice) {
    const SpanRef span{&region, slice};
    const unsigned class_index = span.class_byte().load(std::memory_order_relaxed);
    if (class_index == kLargeClass) add_run(span.state(), out[kLargeClass]);
    if (class_index == kNoClass || class_index > kSpanClasses) continue;
    add_span(span, class_index, out[without_twin(class_index)]);
  }
  const uint64_t free = region.free_slices.load(std::memory_order_relaxed);
  const int dirty = std::popcount(free & region.dirty.load(std::memory_order_relaxed));
  const int clean = std::popcount(free) - dirty;
  out[kNoClass].free_blocks += std::popcount(free);
  out[kNoClass].purged_pages += int64_t{clean} * int{kPagesPerSlice};
  out[kNoClass].purgeable_bytes += dirty * int64_t{kSliceBytes};
}

void set_huge(ClassFigures& sum) noexcept {
  const huge::Figures now = huge::figures();
  sum.live_blocks = static_cast<int64_t>(now.blocks);
  sum.live_bytes = static_cast<int64_t>(now.bytes);
  sum.cached_blocks = static_cast<int64_t>(now.kept_blocks);
  sum.purgeable_bytes = static_cast<int64_t>(now.kept_bytes);
}

}  // namespace

HeapFigures totals() noexcept {
  HeapFigures sum{};
  // What was freed first, what was allocated afterwards: a block that goes from thread to thread meanwhile may be missed as
  // freed, but is never seen freed and not allocated. Work on other threads can only make the heap look too large.
  const ThreadCache& shared = thread_caches::shared;
  uint64_t freed = add_cache(shared, sum);
  sum.record_bytes = 0;
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    freed += add_cache(*cache, sum);
  }
  // From the beginning of the list: a cache that came meanwhile may have allocated what one of the above has freed.
  add_taken(shared, sum);
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    add_taken(*cache, sum);
  }
  sum.freed_bytes = freed;
  sum.large_bytes = large::run_bytes();
  sum.huge_bytes = huge::live_bytes();
  sum.region_bytes = regions::mapped_bytes();
  sum.record_bytes += regions::record_bytes() + leaf_bytes();
  return sum;
}

IdleFigures idle(const HeapFigures& totals) noexcept {
  IdleFigures sum{};
  int64_t block_bytes = 0;
  for (unsigned i = 1; i <= kSpanClasses; ++i) {
    const int64_t spans = spans::count(i);
    sum.spans += spans;
    block_bytes += spans * kClasses[i].blocks * kClasses[i].block_bytes;
  }
  const auto not_in_spans = static_cast<int64_t>(totals.large_bytes + totals.huge_bytes);
  // The figures are of different moments.
  sum.free_bytes = std::max<int64_t>(block_bytes - (totals.held_bytes() - not_in_spans), 0);
  sum.huge = huge::figures();
  return sum;
}

void by_class(ClassFigures (&out)[kBins]) noexcept {
  for (unsigned i = 0; i < kBins; ++i) {
    out[i] = {};
    out[i].block_bytes = kClasses[i].block_bytes;
  }
  out[kNoClass].block_bytes = kSliceBytes;
  for (uint32_t id = 0, end = regions::count(); id < end; ++id) {
    Region* const region = hints::region(id);
    if (is_mapped(region)) add_region(*region, out);
  }
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    for (unsigned i = 1; i <= kSmallClasses; ++i) {
      out[i].cached_blocks += cache->stacked(i);
      out[i].popped_blocks += static_cast<int64_t>(cache->handed_out(i));
    }
  }
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    ClassFigures& sum = out[i];
    sum.live_blocks = sum.spans * kClasses[i].blocks - sum.free_blocks - sum.cached_blocks -
                      thread_caches::lost_blocks(i);
    sum.live_bytes = sum.live_blocks * sum.block_bytes;
  }
  set_huge(out[kHugeClass]);
}

ClassFigures of_class(unsigned class_index) noexcept {
  ClassFigures all[kBins];
  by_class(all);
  return all[class_index];
}

void for_each_thread(void (*visit)(const ThreadFigures&, void*), void* arg) noexcept {
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    const int32_t tid = thread_caches::owner_tid(*cache);
    if (tid == 0) continue;
    const int64_t former = cache->former_bytes.load(std::memory_order_relaxed);
    visit({tid, cache->held_bytes() - former, static_cast<int64_t>(cache->cached_bytes())}, arg);
  }
}

OwnFigures own() noexcept {
  const ThreadCache* const cache = cache_owner.cache;
  if (cache == nullptr) return {};
  const uint64_t allocated = cache->allocated_bytes() - cache->former_allocated_bytes;
  const int64_t held = cache->held_bytes() - cache->former_bytes.load(std::memory_order_relaxed);
  return {allocated, allocated - static_cast<uint64_t>(held) + cache->cached_bytes()};
}

ThreadFigures other_threads() noexcept {
  ThreadFigures sum{0, thread_caches::shared.held_bytes(), 0};
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    const bool owned = cache->owner_tid.load(std::memory_order_relaxed) != 0;
    sum.held_bytes +=
        owned ? cache->former_bytes.load(std::memory_order_relaxed) : cache->held_bytes();
    sum.held_bytes -= static_cast<int64_t>(cache->lost_bytes.load(std::memory_order_relaxed));
  }
  return sum;
}

}  // namespace memlimit::heap::figures
