/* See figures.h. */
#include "figures.h"

#include <algorithm>

#include "engine/account.h"

namespace memlimit {
namespace {

using heap::ClassFigures;
using heap::kPageBytes;
using heap::kSliceBytes;

/* While threads work a difference may be negative. */
size_t at_least_zero(int64_t value) noexcept {
  return static_cast<size_t>(std::max<int64_t>(value, 0));
}

void add_small(const ClassFigures& sum, HeapReport& report) noexcept {
  const auto block_bytes = static_cast<size_t>(sum.block_bytes);
  const int64_t pages = sum.spans * int64_t{heap::kPagesPerSlice} - sum.purged_pages;
  report.cached_blocks += at_least_zero(sum.cached_blocks);
  report.cached_bytes += at_least_zero(sum.cached_blocks) * block_bytes;
  report.free_blocks += at_least_zero(sum.free_blocks);
  report.free_bytes += at_least_zero(sum.free_blocks) * block_bytes;
  report.active_bytes += at_least_zero(pages) * kPageBytes;
  report.extent_bytes += at_least_zero(sum.spans) * kSliceBytes;
}

}  // namespace

size_t heap_live_bytes() noexcept {
  const int64_t live = std::max<int64_t>(account::totals().heap_bytes(), 0);
  account::note_peak(live);
  return static_cast<size_t>(live);
}

HeapReport heap_report(HeapClasses& classes) noexcept {
  HeapReport report{};
  report.live_bytes = heap_live_bytes();
  report.peak_bytes = at_least_zero(account::heap_peak_bytes());
  const heap::HeapFigures totals = heap::figures::totals();
  report.region_bytes = totals.region_bytes;
  report.record_bytes = totals.record_bytes;
  report.huge = heap::huge::figures();
  heap::figures::by_class(classes);
  for (unsigned i = 1; i <= heap::kSmallClasses; ++i) add_small(classes[i], report);
  for (const ClassFigures& sum : classes)
    report.purgeable_bytes += at_least_zero(sum.purgeable_bytes);
  const ClassFigures& large = classes[heap::kLargeClass];
  report.active_bytes += at_least_zero(large.live_bytes) + report.huge.bytes;
  report.extent_bytes += at_least_zero(large.spans) * kSliceBytes + report.huge.mapped_bytes;
  const ClassFigures& slices = classes[heap::kNoClass];
  report.free_slices = at_least_zero(slices.free_blocks);
  report.dirty_bytes = at_least_zero(slices.purgeable_bytes) + report.huge.kept_bytes;
  report.retained_bytes = at_least_zero(slices.purged_pages) * kPageBytes;
  return report;
}

HeapReport heap_report() noexcept {
  HeapClasses classes;
  return heap_report(classes);
}

}  // namespace memlimit
