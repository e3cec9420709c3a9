/* Regions: runs of slices are found, given to one owner, and come back; what fails leaves nothing behind. */
#include "heap/region.h"

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "heap/address_map.h"
#include "heap/page_source.h"
#include "heap/purge.h"
#include "unit/heap/support.h"

using namespace memlimit;
using namespace memlimit::heap;

namespace {

void give_back(const SliceRun& run) { regions::return_slices(*run.region, run.first, run.count); }

bool overlap(const SliceRun& a, const SliceRun& b) {
  return a.region == b.region && (a.mask() & b.mask()) != 0;
}

}  // namespace

TEST_CASE("regions: runs of every length are disjoint and writable", "[heap]") {
  std::vector<SliceRun> runs;
  for (unsigned count = 1; count <= kSlicesPerRegion; ++count) {
    const SliceRun run = regions::take_slices(count, kSliceBytes);
    REQUIRE(run.region != nullptr);
    CHECK(run.count == count);
    for (const SliceRun& other : runs) CHECK_FALSE(overlap(run, other));
    memset(run.address(), 1, count * kSliceBytes);
    runs.push_back(run);
  }
  for (const SliceRun& run : runs) give_back(run);
}

TEST_CASE("regions: a run begins at the alignment asked for", "[heap]") {
  for (size_t alignment = kSliceBytes; alignment <= kRegionBytes; alignment *= 2) {
    const SliceRun first = regions::take_slices(1, kSliceBytes);
    const SliceRun run = regions::take_slices(1, alignment);
    REQUIRE(run.region != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(run.address()) % alignment == 0);
    give_back(run);
    give_back(first);
  }
}

TEST_CASE("regions: a slice that was given back is dirty until it is purged", "[heap]") {
  // Stays, or the whole chunk would go back.
  const SliceRun stays = regions::take_slices(1, kSliceBytes);
  const SliceRun run = regions::take_slices(3, kSliceBytes);
  memset(run.address(), 1, 3 * kSliceBytes);
  give_back(run);
  CHECK((run.region->dirty.load() & run.mask()) == run.mask());
  CHECK(purge(UINT32_MAX).complete);
  CHECK((run.region->dirty.load() & run.mask()) == 0);
  if (run.region == stays.region) {
    REQUIRE(regions::take_run(*run.region, run.first, 3));
    for (size_t i = 0; i < 3 * kSliceBytes; i += 512) REQUIRE(run.address()[i] == 0);
    give_back(run);
  }
  give_back(stays);
}

TEST_CASE("regions: threads never own the same slice", "[heap][threads]") {
  constexpr int kThreads = 4;
  constexpr int kTurns = 3000;
  std::atomic<int> clashes{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&clashes, t] {
      for (int i = 0; i < kTurns; ++i) {
        const SliceRun run = regions::take_slices(1 + static_cast<unsigned>(i % 7), kSliceBytes);
        if (run.region == nullptr) {
          clashes = -1;
          return;
        }
        for (unsigned s = 0; s < run.count; ++s) {
          *reinterpret_cast<int*>(run.address() + s * kSliceBytes) = t;
        }
        for (unsigned s = 0; s < run.count; ++s) {
          if (*reinterpret_cast<int*>(run.address() + s * kSliceBytes) != t) ++clashes;
        }
        give_back(run);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(clashes == 0);
}

TEST_CASE("regions: chunks that are free go back, and their records serve again", "[heap]") {
  purge(UINT32_MAX);
  const size_t records = [] {
    const SliceRun run = regions::take_slices(kSlicesPerRegion, kSliceBytes);
    const size_t with_chunk = regions::record_bytes();
    give_back(run);
    return with_chunk;
  }();
  for (int i = 0; i < 3; ++i) {
    purge(UINT32_MAX);
    const size_t before = regions::mapped_bytes();
    const SliceRun run = regions::take_slices(kSlicesPerRegion, kSliceBytes);
    REQUIRE(run.region != nullptr);
    CHECK(region_at(run.address()) == run.region);
    char* const address = run.address();
    give_back(run);
    purge(UINT32_MAX);
    CHECK(regions::mapped_bytes() <= before);
    CHECK((region_at(address) == nullptr || regions::mapped_bytes() == before));
  }
  CHECK(regions::record_bytes() == records);
}

TEST_CASE("address_map: what is not ours has no class", "[heap]") {
  int local = 0;
  CHECK(class_at(nullptr) == kNoClass);
  CHECK(class_at(&local) == kNoClass);
  CHECK(class_at(reinterpret_cast<void*>(0x7fff'ffff'f000)) == kNoClass);
  CHECK(region_at(&local) == nullptr);
}
