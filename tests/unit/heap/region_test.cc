/* Regions: runs of slices are found, given to one owner, and come back; what fails leaves nothing behind. */
#include "heap/region.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
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
  // A heap's first region comes alone and only once: where this is the first test, a chunk follows it.
  size_t records = 0;
  for (int i = 0; i < 2; ++i) {
    purge(UINT32_MAX);
    const SliceRun run = regions::take_slices(kSlicesPerRegion, kSliceBytes);
    records = regions::record_bytes();
    give_back(run);
  }
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

TEST_CASE("page_source: a heap begins beside a program that lies anywhere", "[heap]") {
  constexpr uintptr_t kGiB = uintptr_t{1} << 30;
  for (const uintptr_t program :
       {uintptr_t{0x559248dae000}, uintptr_t{0x559240000000}, uintptr_t{0x559243fff000},
        uintptr_t{0xaaaae3150000}, uintptr_t{0x5555554000}}) {
    uintptr_t lowest = UINTPTR_MAX, highest = 0;
    for (uint64_t random = 0; random < 10'000; ++random) {
      const uintptr_t address = kernel_pages::lonely_address(program, random * 0x9e3779b97f4a7c15);
      REQUIRE(address % kRegionBytes == 0);
      lowest = std::min(lowest, address);
      highest = std::max(highest, address);
    }
    CHECK(highest + kRegionBytes <= program);
    CHECK(program - lowest <= 2 * kGiB);
    CHECK(lowest / kGiB == highest / kGiB);
    CHECK((highest - lowest) / kRegionBytes >= 15);
  }
}

TEST_CASE("page_source: beside a program of a fixed address a heap begins far away", "[heap]") {
  constexpr uintptr_t kTiB = uintptr_t{1} << 40;
  for (const uintptr_t program : {uintptr_t{0}, uintptr_t{0x400040}, uintptr_t{0x7fffffff}}) {
    for (const uint64_t random : {uint64_t{0}, uint64_t{0x123456789abcdef0}, UINT64_MAX}) {
      const uintptr_t address = kernel_pages::lonely_address(program, random);
      CHECK(address % kRegionBytes == 0);
      CHECK(address >= 48 * kTiB);
      CHECK(address + kRegionBytes <= 64 * kTiB);
    }
  }
}

TEST_CASE("address_map: what is not ours has no class", "[heap]") {
  int local = 0;
  CHECK(class_at(nullptr) == kNoClass);
  CHECK(class_at(&local) == kNoClass);
  CHECK(class_at(reinterpret_cast<void*>(0x7fff'ffff'f000)) == kNoClass);
  CHECK(region_at(&local) == nullptr);
}
