/* See large.h. */
#include "heap/large.h"

#include <algorithm>

#include "heap/huge.h"
#include "heap/misuse.h"
#include "heap/purge.h"
#include "heap/region.h"

namespace memlimit::heap::large {
namespace {

constinit std::atomic<size_t> in_runs{0};

constexpr size_t whole_pages(size_t bytes) noexcept {
  return (bytes + kPageBytes - 1) & ~(kPageBytes - 1);
}

constexpr unsigned slices_of(size_t bytes) noexcept {
  return static_cast<unsigned>((bytes + kSliceBytes - 1) >> kSliceShift);
}

void* allocate_run(size_t bytes, size_t alignment, bool* zero) noexcept {
  const SliceRun run = regions::take_slices(slices_of(bytes), alignment);
  if (run.region == nullptr) return nullptr;
  SliceState& state = run.region->slices[run.first];
  state.run_slices.store(static_cast<uint16_t>(run.count), std::memory_order_relaxed);
  state.run_pages.store(static_cast<uint16_t>(bytes >> kPageShift), std::memory_order_relaxed);
  char* const block = run.address();
  class_byte(block).store(kLargeClass, std::memory_order_relaxed);
  in_runs.fetch_add(bytes, std::memory_order_relaxed);
  *zero = !run.dirty;
  return block;
}

/* Ends the block's being one; the class it had, by which the second of two frees is found out. */
unsigned end_block(void* block) noexcept {
  if ((reinterpret_cast<uintptr_t>(block) & (kSliceBytes - 1)) != 0) {
    report_misuse(Misuse::kInvalidPointer, block, 0);
  }
  const unsigned was = class_byte(block).exchange(kNoClass, std::memory_order_acq_rel);
  if (was != kLargeClass && was != kHugeClass) report_misuse(Misuse::kDoubleFree, block, 0);
  return was;
}

size_t run_bytes_of(const SliceState& state) noexcept {
  return size_t{state.run_pages.load(std::memory_order_relaxed)} << kPageShift;
}

/* The slices behind the block, or its own last ones, change hands. False: it stays as it is. */
bool resize_run(void* block, size_t bytes) noexcept {
  Region& region = *region_at(block);
  const unsigned first = region.slice_of(block);
  SliceState& state = region.slices[first];
  const unsigned had = state.run_slices.load(std::memory_order_relaxed);
  const unsigned wanted = slices_of(bytes);
  if (first + wanted > kSlicesPerRegion) return false;
  if (wanted > had) {
    if (!regions::take_run(region, first + had, wanted - had)) return false;
    region.dirty.fetch_or(SliceRun{&region, first + had, wanted - had, false}.mask(),
                          std::memory_order_relaxed);
  }
  in_runs.fetch_add(bytes - run_bytes_of(state), std::memory_order_relaxed);
  state.run_slices.store(static_cast<uint16_t>(wanted), std::memory_order_relaxed);
  state.run_pages.store(static_cast<uint16_t>(bytes >> kPageShift), std::memory_order_relaxed);
  if (wanted < had) regions::return_slices(region, first + wanted, had - wanted);
  return true;
}

}  // namespace

void* allocate(size_t bytes, size_t alignment, size_t* block_bytes, bool* zero) noexcept {
  if (bytes > PTRDIFF_MAX - kPageBytes || alignment > PTRDIFF_MAX) return nullptr;
  const size_t whole = whole_pages(std::max<size_t>(bytes, 1));
  *block_bytes = whole;
  if (whole <= kRegionBytes && alignment <= kRegionBytes) {
    return allocate_run(whole, alignment, zero);
  }
  return huge::allocate(whole, alignment, zero);
}

size_t release(void* block) noexcept {
  // Read before the class goes: afterwards the slice may be another's.
  Region* const region = region_at(block);
  if (end_block(block) == kLargeClass) {
    const unsigned first = region->slice_of(block);
    SliceState& state = region->slices[first];
    const size_t bytes = run_bytes_of(state);
    in_runs.fetch_sub(bytes, std::memory_order_relaxed);
    regions::return_slices(*region, first, state.run_slices.load(std::memory_order_relaxed));
    decay::note_free_slices();
    return bytes;
  }
  const size_t bytes = huge::release(block);
  decay::note_free_slices();
  return bytes;
}

size_t usable_bytes(const void* block) noexcept {
  if (class_at(block) == kHugeClass) return huge::usable_bytes(block);
  const Region& region = *region_at(block);
  return run_bytes_of(region.slices[region.slice_of(block)]);
}

void* resize(void* block, size_t bytes, size_t* old_bytes, size_t* new_bytes) noexcept {
  if (bytes > PTRDIFF_MAX - kPageBytes) return nullptr;
  const size_t whole = whole_pages(bytes);
  *old_bytes = usable_bytes(block);
  *new_bytes = whole;
  if (whole == *old_bytes) return block;
  if (whole <= kLargestSmallBytes) return nullptr;
  const bool is_run = class_at(block) == kLargeClass;
  if (is_run != (whole <= kRegionBytes)) return nullptr;
  if (is_run) return resize_run(block, whole) ? block : nullptr;
  return huge::resize(block, whole);
}

size_t good_size(size_t bytes) noexcept {
  return bytes > PTRDIFF_MAX - kPageBytes ? bytes : whole_pages(bytes);
}

size_t run_bytes() noexcept { return in_runs.load(std::memory_order_relaxed); }

}  // namespace memlimit::heap::large
