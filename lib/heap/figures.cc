/* See figures.h. */
#include "heap/figures.h"

#include <bit>

#include "heap/huge.h"
#include "heap/large.h"
#include "heap/region.h"
#include "heap/span.h"

namespace memlimit::heap::figures {
namespace {

constinit std::atomic<int64_t> published{0};
constinit std::atomic<int64_t> peak{0};

void add_cache(const ThreadCache& cache, HeapFigures& sum) noexcept {
  // Returned before taken: what is seen as returned was taken before.
  sum.returned_bytes += cache.returned_bytes.load(std::memory_order_acquire);
  sum.lost_bytes += cache.lost_bytes.load(std::memory_order_relaxed);
  sum.cached_bytes += cache.cached_bytes();
  sum.taken_bytes += cache.taken_bytes.load(std::memory_order_relaxed);
  sum.allocated_bytes += cache.large_allocated_bytes.load(std::memory_order_relaxed);
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    sum.allocated_bytes += cache.pops[i].load(std::memory_order_relaxed) * kClasses[i].block_bytes;
  }
}

void add_large(const SliceState& run, ClassFigures& sum) noexcept {
  ++sum.spans;
  ++sum.live_blocks;
  sum.live_bytes += int64_t{run.run_pages.load(std::memory_order_relaxed)} << kPageShift;
}

/* Others go on meanwhile: a span that is cut anew while it is looked at counts as what it was. */
void add_region(Region& region, ClassFigures (&out)[kBins]) noexcept {
  for (unsigned slice = 0; slice < kSlicesPerRegion; ++slice) {
    const SpanRef span{&region, slice};
    const unsigned class_index = span.class_byte().load(std::memory_order_relaxed);
    if (class_index == kNoClass || class_index == kHugeClass) continue;
    if (class_index == kLargeClass) {
      add_large(span.state(), out[kLargeClass]);
      continue;
    }
    ClassFigures& sum = out[class_index];
    ++sum.spans;
    sum.free_blocks += spans::count_free(span, class_index);
    sum.purged_pages += std::popcount(span.state().purged_pages.load(std::memory_order_relaxed));
  }
  const uint64_t clean = region.free_slices.load() & ~region.dirty.load(std::memory_order_relaxed);
  out[kNoClass].purged_pages += int64_t{std::popcount(clean)} * kPagesPerSlice;
}

}  // namespace

HeapFigures totals() noexcept {
  HeapFigures sum{};
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    add_cache(*cache, sum);
  }
  const ThreadCache& shared = thread_caches::shared;
  sum.returned_bytes += shared.returned_bytes.load(std::memory_order_acquire);
  sum.taken_bytes += shared.taken_bytes.load(std::memory_order_relaxed);
  sum.allocated_bytes += shared.large_allocated_bytes.load(std::memory_order_relaxed);
  sum.large_bytes = large::run_bytes();
  sum.huge_bytes = huge::live_bytes();
  sum.region_bytes = regions::mapped_bytes();
  sum.record_bytes = regions::record_bytes();
  return sum;
}

void by_class(ClassFigures (&out)[kBins]) noexcept {
  for (unsigned i = 0; i < kBins; ++i) {
    out[i] = {};
    out[i].block_bytes = kClasses[i].block_bytes;
  }
  for (uint32_t id = 0, end = regions::count(); id < end; ++id) {
    Region* const region = hints::region(id);
    // Of one that was given back the record is left, and its addresses may be another's.
    if (region == nullptr || region->begin() == nullptr || region_at(region->begin()) != region)
      continue;
    add_region(*region, out);
  }
  for (const ThreadCache* cache = thread_caches::all(); cache != nullptr; cache = cache->next) {
    for (unsigned i = 1; i <= kSmallClasses; ++i) out[i].cached_blocks += cache->stacked(i);
  }
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    ClassFigures& sum = out[i];
    sum.live_blocks = sum.spans * kClasses[i].blocks - sum.free_blocks - sum.cached_blocks;
    sum.live_bytes = sum.live_blocks * sum.block_bytes;
  }
  out[kHugeClass].live_blocks = huge::live_blocks();
  out[kHugeClass].live_bytes = static_cast<int64_t>(huge::live_bytes());
}

ClassFigures of_class(unsigned class_index) noexcept {
  ClassFigures all[kBins];
  by_class(all);
  return all[class_index];
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

int64_t published_held_bytes() noexcept { return published.load(std::memory_order_relaxed); }

int64_t peak_held_bytes() noexcept { return peak.load(std::memory_order_relaxed); }

void publish(int64_t more_bytes) noexcept {
  const int64_t now = published.fetch_add(more_bytes, std::memory_order_relaxed) + more_bytes;
  int64_t highest = peak.load(std::memory_order_relaxed);
  while (now > highest && !peak.compare_exchange_weak(highest, now, std::memory_order_relaxed)) {
  }
}

}  // namespace memlimit::heap::figures
