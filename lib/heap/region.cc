/* See region.h. */
#include "heap/region.h"

#include <algorithm>
#include <bit>

#include "heap/page_source.h"
#include "heap/tagged_stack.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::heap {

uint64_t SliceRun::mask() const noexcept {
  return (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << first;
}

namespace regions {
namespace {

constexpr uint32_t kMostChunkRegions = 16;

/* The first region grows by half a MiB at a time: mlockall() counts address space, and a program that may lock 8 MiB has
 * little of it left beside its libraries and this heap's records. */
constexpr uint32_t kPieceSlices = 8;

/* How many slices the first region has. */
constexpr uint32_t kNoMoreSlices = kSlicesPerRegion; /* it is whole, or cannot grow */
constexpr uint32_t kGrowing =
    kNoMoreSlices + 1; /* a thread is about it; for ever when it vanished in a fork */
constinit std::atomic<uint32_t> first_slices{0};
constinit std::atomic<Region*> first_region{nullptr};

constinit std::atomic<uint32_t> ids_given{0};
constinit std::atomic<uint32_t> first_chunk_regions{4};
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> mapping{
    0}; /* a thread maps a chunk: others wait for a while */
constinit std::atomic<size_t> mapped{0};
constinit std::atomic<size_t> records{0};

/* The bits where a run of `length` begins. */
constexpr uint64_t run_starts(uint64_t free, unsigned length) noexcept {
  for (unsigned have = 1; have < length && free != 0;) {
    const unsigned step = std::min(have, length - have);
    free &= free >> step;
    have += step;
  }
  return free;
}

/* Every stride-th bit: where runs of that alignment may begin. */
constexpr uint64_t aligned_starts(size_t alignment) noexcept {
  uint64_t starts = 0;
  const unsigned stride =
      alignment <= kSliceBytes ? 1 : static_cast<unsigned>(alignment / kSliceBytes);
  for (unsigned i = 0; i < kSlicesPerRegion; i += stride) starts |= uint64_t{1} << i;
  return starts;
}

void set_run_hints(const Region& region, uint64_t free) noexcept {
  for (unsigned i = 0; i < std::size(kRunLengths); ++i) {
    free = run_starts(free, i == 0 ? 1 : kRunLengths[i] - kRunLengths[i - 1] + 1);
    if (free == 0) return;
    hints::set(kFreeRuns + i, region.id);
  }
}

/* Takes the lowest run of the region that fits. */
bool take_from(Region& region, unsigned count, uint64_t starts, SliceRun* run) noexcept {
  uint64_t free = region.free_slices.load();
  for (;;) {
    const uint64_t fits = run_starts(free, count) & starts;
    if (fits == 0) return false;
    SliceRun found{&region, static_cast<unsigned>(std::countr_zero(fits)), count, false};
    const uint64_t mask = found.mask();
    // Acquire: whatever the last owner did to the slices comes before.
    if (region.free_slices.compare_exchange_weak(free, free & ~mask, std::memory_order_acq_rel)) {
      found.dirty = (region.dirty.fetch_or(mask, std::memory_order_relaxed) & mask) != 0;
      // Free again, they begin to age anew.
      if ((region.aged.load(std::memory_order_relaxed) & mask) != 0) {
        region.aged.fetch_and(~mask, std::memory_order_relaxed);
      }
      *run = found;
      return true;
    }
  }
}

/* Takes a run from the regions that have the hint. */
bool take_hinted(unsigned kind_index, unsigned count, uint64_t starts, unsigned tries,
                 SliceRun* run) noexcept {
  const unsigned kind = kFreeRuns + kind_index;
  uint32_t id = hints::find(kind);
  while (id != kNoRegion && tries-- > 0) {
    Region& region = *hints::region(id);
    if (take_from(region, count, starts, run)) return true;
    if (run_starts(region.free_slices.load(), kRunLengths[kind_index]) == 0) {
      hints::clear(kind, id);
      set_run_hints(region, region.free_slices.load());
    }
    id = hints::find(kind, id + 1);
  }
  return false;
}

bool take_existing(unsigned count, uint64_t starts, SliceRun* run) noexcept {
  constexpr unsigned kKinds = std::size(kRunLengths);
  constexpr unsigned kNoBound = kMaxRegions;
  constexpr unsigned kFewTries = 16;
  // First where a shorter run is known to be: it may be long enough, and long ones stay whole. But not for ever.
  unsigned exact = 0;
  while (exact < kKinds && kRunLengths[exact] < count) ++exact;
  if (exact > 0 && kRunLengths[exact] != count &&
      take_hinted(exact - 1, count, starts, kFewTries, run))
    return true;
  for (unsigned i = exact; i < kKinds; ++i) {
    if (take_hinted(i, count, starts, kNoBound, run)) return true;
  }
  return false;
}

/* Records of chunks that were given back, by their number of regions. */
constinit TaggedStack<Region> spare_records[kMostChunkRegions + 1];

/* The records for a chunk, one after the other, in memory that stays. */
Region* make_records(uint32_t chunk_regions) noexcept {
  if (Region* const spare = spare_records[chunk_regions].pop()) return spare;
  const size_t bytes = chunk_regions * sizeof(Region);
  auto* const fresh = static_cast<Region*>(os::map_pages(bytes));
  if (fresh == nullptr) return nullptr;
  const uint32_t first_id = ids_given.load();
  bool placed = first_id + chunk_regions <= kMaxRegions && hints::make_room(first_id) &&
                hints::make_room(first_id + chunk_regions - 1);
  // Ids follow each other; when another thread took them meanwhile, this attempt is given up: it has made a chunk.
  uint32_t expected = first_id;
  placed = placed && ids_given.compare_exchange_strong(expected, first_id + chunk_regions);
  if (!placed) {
    os::unmap_pages(fresh, bytes);
    return nullptr;
  }
  for (uint32_t i = 0; i < chunk_regions; ++i) {
    fresh[i].id = first_id + i;
    fresh[i].chunk_index = i;
    hints::set_region(fresh[i].id, &fresh[i]);
  }
  fresh->chunk_regions = chunk_regions;
  records.fetch_add(bytes, std::memory_order_relaxed);
  return fresh;
}

/* The region begins to serve, with these slices free. */
void open(Region& region, char* base, const PageSource& source, uint64_t free) noexcept {
  region.base.store(base, std::memory_order_relaxed);
  region.source = &source;
  set_region_at(base, &region);
  region.free_slices.store(free, std::memory_order_release);
  set_run_hints(region, free);
}

/* Maps more of the first region, `slices` from `have` on. */
bool map_piece(uint32_t have, uint32_t slices) noexcept {
  const size_t bytes = slices * kSliceBytes;
  if (have > 0) {
    Region& region = *first_region.load(std::memory_order_relaxed);
    char* const address = region.slice_address(have);
    if (!region.source->extend_region(address, bytes)) return false;
    mapped.fetch_add(bytes, std::memory_order_relaxed);
    return_slice_mask(region, SliceRun{&region, have, slices, false}.mask());
    return true;
  }
  const PageSource& source = page_source();
  if (source.begin_region == nullptr || source.extend_region == nullptr) return false;
  auto* const base = static_cast<char*>(source.begin_region(bytes));
  if (base == nullptr) return false;
  Region* const region = make_leaves(base, kRegionBytes) ? make_records(1) : nullptr;
  if (region == nullptr) {
    source.unmap_region(base, bytes);
    return false;
  }
  mapped.fetch_add(bytes, std::memory_order_relaxed);
  first_region.store(region, std::memory_order_relaxed);
  open(*region, base, source, SliceRun{region, 0, slices, false}.mask());
  return true;
}

/* Lets the first region grow by room for a run. False: it has no such room, or cannot grow. */
bool grow_first_region(unsigned count) noexcept {
  uint32_t have = first_slices.load(std::memory_order_acquire);
  if (have >= kNoMoreSlices) return false;
  const uint32_t slices = (count + kPieceSlices - 1) / kPieceSlices * kPieceSlices;
  if (have + slices > kSlicesPerRegion) return false;
  if (!first_slices.compare_exchange_strong(have, kGrowing, std::memory_order_acquire))
    return false;
  const bool grown = map_piece(have, slices);
  first_slices.store(grown ? have + slices : kNoMoreSlices, std::memory_order_release);
  return grown;
}

/* Maps a chunk; the first `count` slices of it are the caller's at once. */
bool map_chunk(uint32_t chunk_regions, unsigned count, SliceRun* run) noexcept {
  const PageSource& source = page_source();
  const size_t bytes = chunk_regions * kRegionBytes;
  auto* const base = static_cast<char*>(source.map_region(bytes, kRegionBytes));
  if (base == nullptr) return false;
  Region* const first = make_leaves(base, bytes) ? make_records(chunk_regions) : nullptr;
  if (first == nullptr) {
    source.unmap_region(base, bytes);
    return false;
  }
  mapped.fetch_add(bytes, std::memory_order_relaxed);
  *run = {first, 0, count, false};
  for (uint32_t i = 0; i < chunk_regions; ++i) {
    uint64_t free = ~uint64_t{0};
    if (i == 0) {
      free &= ~run->mask();
      first->dirty.store(run->mask(), std::memory_order_relaxed);
    }
    open(first[i], base + i * kRegionBytes, source, free);
  }
  return true;
}

/* An eighth of what there is, so that a large heap is made of few chunks. */
uint32_t wanted_chunk_regions() noexcept {
  const uint32_t least = first_chunk_regions.load(std::memory_order_relaxed);
  const auto have = static_cast<uint32_t>(mapped.load(std::memory_order_relaxed) / kRegionBytes);
  return std::clamp(std::bit_floor(have / 8 | 1), least, kMostChunkRegions);
}

/* Waits while another thread maps a chunk, but never for long: it may not be there any more (fork, a signal handler
 * of its own thread). Returns whether it waited. */
bool wait_for_mapping() noexcept {
  constexpr int kPatience = 1000;
  int waited = 0;
  while (mapping.load(std::memory_order_acquire) != 0 && waited < kPatience) {
    os::yield();
    ++waited;
  }
  return waited > 0 && waited < kPatience;
}

}  // namespace

SliceRun take_slices(unsigned count, size_t alignment, bool from_existing) noexcept {
  const uint64_t starts = aligned_starts(alignment);
  SliceRun run{};
  for (;;) {
    if (take_existing(count, starts, &run)) return run;
    if (from_existing) return {};
    if (!wait_for_mapping()) break;
  }
  mapping.fetch_add(1);
  bool taken = false;
  while (!taken && grow_first_region(count)) taken = take_existing(count, starts, &run);
  uint32_t chunk_regions = wanted_chunk_regions();
  while (!taken && !(taken = map_chunk(chunk_regions, count, &run)) && chunk_regions > 1) {
    chunk_regions /= 2;
  }
  mapping.fetch_sub(1, std::memory_order_release);
  // Another thread may have had more luck, or given something back.
  if (!taken && !take_existing(count, starts, &run)) return {};
  return run;
}

bool take_run(Region& region, unsigned first, unsigned count) noexcept {
  const SliceRun run{&region, first, count, false};
  uint64_t free = region.free_slices.load();
  do {
    if ((free & run.mask()) != run.mask()) return false;
  } while (!region.free_slices.compare_exchange_weak(free, free & ~run.mask(),
                                                     std::memory_order_acq_rel));
  return true;
}

void return_slice_mask(Region& region, uint64_t mask) noexcept {
  // Release: the owner is done with the slices. Sequentially consistent before the hints (hints.h).
  const uint64_t free = region.free_slices.fetch_or(mask) | mask;
  set_run_hints(region, free);
  if ((mask & region.dirty.load()) != 0) hints::set(kDirtySlices, region.id);
}

void return_slices(Region& region, unsigned first, unsigned count) noexcept {
  return_slice_mask(region, SliceRun{&region, first, count, false}.mask());
}

uint32_t count() noexcept {
  return std::min(ids_given.load(std::memory_order_acquire), kMaxRegions);
}

size_t release_free_chunks() noexcept {
  size_t released_bytes = 0;
  for (uint32_t id = hints::find(kWholeRegions); id != kNoRegion;
       id = hints::find(kWholeRegions, id + 1)) {
    Region* const region = hints::region(id);
    if (region->free_slices.load() != ~uint64_t{0}) {
      // Stale. Region by region, or a chunk that is given back leaves its hints for ever.
      hints::clear(kWholeRegions, id);
      if (region->free_slices.load() == ~uint64_t{0}) hints::set(kWholeRegions, id);
      continue;
    }
    Region* const first = region - region->chunk_index;
    const uint32_t regions_in_it = first->chunk_regions;
    id = first->id + regions_in_it - 1;
    uint32_t taken = 0;
    while (taken < regions_in_it && take_run(first[taken], 0, kSlicesPerRegion)) ++taken;
    if (taken < regions_in_it) {
      for (uint32_t i = 0; i < taken; ++i) return_slice_mask(first[i], ~uint64_t{0});
      continue;
    }
    const size_t bytes = regions_in_it * kRegionBytes;
    for (uint32_t i = 0; i < regions_in_it; ++i) {
      set_region_at(first[i].begin(), nullptr);
      first[i].dirty.store(0, std::memory_order_relaxed);
      first[i].aged.store(0, std::memory_order_relaxed);
    }
    mapped.fetch_sub(bytes, std::memory_order_relaxed);
    first->source->unmap_region(first->begin(), bytes);
    spare_records[regions_in_it].push(first);
    released_bytes += bytes;
  }
  return released_bytes;
}

void set_first_chunk_bytes(size_t bytes) noexcept {
  const size_t wanted = std::clamp<size_t>(bytes / kRegionBytes, 1, kMostChunkRegions);
  first_chunk_regions.store(static_cast<uint32_t>(std::bit_floor(wanted)),
                            std::memory_order_relaxed);
}

size_t mapped_bytes() noexcept { return mapped.load(std::memory_order_relaxed); }
size_t record_bytes() noexcept { return records.load(std::memory_order_relaxed); }

/* A thread that is not here may have been about to set one. */
MEMLIMIT_COLD static void set_all_hints() noexcept {
  for (uint32_t id = 0, end = count(); id < end; ++id) {
    Region* const region = hints::region(id);
    if (region == nullptr) continue;
    for (unsigned i = 1; i <= kSpanClasses; ++i) {
      if (region->partial(i).load() != 0) hints::set(i, id);
    }
    if (region->empty_spans.load() != 0) hints::set(kEmptySpans, id);
    set_run_hints(*region, region->free_slices.load());
    // Whether there is something to purge in it is found out when it is looked at.
    hints::set(kDirtySlices, id);
    hints::set(kFreedSpans, id);
  }
}

MEMLIMIT_CHILD_CODE void reset_after_fork(bool had_others) noexcept {
  if (mapping.load(std::memory_order_relaxed) != 0) mapping.store(0, std::memory_order_relaxed);
  if (had_others) set_all_hints();
}

}  // namespace regions
}  // namespace memlimit::heap
