/* What lies in a thread's stacks: how they grow, and what a flush gives back in whatever order. */
#include "heap/transfer.h"

#include <algorithm>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "unit/heap/support.h"

using namespace memlimit;
using namespace memlimit::heap;
using test::on_thread;

namespace {

std::vector<void*> allocate_many(size_t count, size_t bytes) {
  std::vector<void*> blocks(count);
  for (void*& block : blocks) block = allocate(bytes);
  return blocks;
}

/* On a thread of its own: its stacks are as small as they begin. */
template <typename Function>
void alone(Function function) {
  on_thread([function] {
    release(allocate(16));
    function();
  }).join();
}

/* As alone(), with a cache that no thread had before: those that are free are taken meanwhile. */
template <typename Function>
void alone_and_new(Function function) {
  alone([function] {
    const bool is_new = cache_owner.cache->allocated_bytes() == 16;
    is_new ? function() : alone_and_new(function);
  });
}

uint64_t taken_by_thread() { return cache_owner.cache->taken_bytes; }

}  // namespace

TEST_CASE("transfer: what comes and goes in bulk stays with the thread", "[heap]") {
  alone([] {
    for (const size_t bytes : {size_t{24}, size_t{200}, size_t{1000}, size_t{4000}}) {
      const size_t count = std::min<size_t>(4000, (128 << 10) / bytes);
      std::mt19937 random(1);
      uint64_t before = 0;
      for (int turn = 0; turn < 20; ++turn) {
        before = taken_by_thread();
        std::vector<void*> blocks = allocate_many(count, bytes);
        std::shuffle(blocks.begin(), blocks.end(), random);
        for (void* const block : blocks) release(block);
      }
      INFO(bytes << " bytes");
      CHECK(taken_by_thread() == before);
    }
    CHECK(cache_owner.cache->cached_bytes() <= kCacheBytes);
  });
}

TEST_CASE("transfer: megabytes of many sizes stay with one of two threads when they come back",
          "[heap]") {
  alone([] {
    std::mt19937 random(3);
    // A class that finds the budget spent asks for more only now and then, and takes it from any of the others: whether that
    // had too much depends on what the tests before have left. Then it is the other one's turn.
    constexpr int kMostTurns = 5000;
    constexpr int kTurnsAtRest = 20;
    int at_rest = 0;
    for (int turn = 0; turn < kMostTurns && at_rest < kTurnsAtRest; ++turn) {
      const uint64_t before = taken_by_thread();
      std::vector<void*> blocks;
      for (size_t bytes = 1024; bytes <= 2048; bytes += 64) {
        for (size_t i = 0; i < (128 << 10) / bytes; ++i) blocks.push_back(allocate(bytes));
      }
      std::shuffle(blocks.begin(), blocks.end(), random);
      for (void* const block : blocks) release(block);
      at_rest = taken_by_thread() == before ? at_rest + 1 : 0;
    }
    CHECK(at_rest == kTurnsAtRest);
    CHECK(cache_owner.cache->cached_bytes() <= kCacheBytes);
  });
}

TEST_CASE("transfer: far places are mapped when a stack outgrows its near one", "[heap]") {
  alone_and_new([] {
    ThreadCache& cache = *cache_owner.cache;
    const auto turn = [](size_t blocks, size_t bytes) {
      for (void* const block : allocate_many(blocks, bytes)) release(block);
    };
    for (unsigned i = 1; i <= kSmallClasses; ++i) turn(4, kClasses[i].block_bytes);
    CHECK(cache.far_begin == 0);
    turn(4000, 24);
    CHECK(cache.far_begin != 0);
    CHECK(cache.stacked(class_of(24)) > kMostNearBlocks);
    CHECK(cache.cached_bytes() == cache.own_cached_bytes());
    // The others stay where they are, and all of them go on from there.
    CHECK(cache.tops[class_of(200)] < kStackPlaces.near_bytes);
    turn(4000, 200);
    CHECK(cache.tops[class_of(200)] >= kStackPlaces.near_bytes);
    CHECK(cache.cached_bytes() == cache.own_cached_bytes());
    transfer::flush_all(cache);
    CHECK(cache.cached_bytes() == 0);
  });
}

TEST_CASE("transfer: the more threads there are, the less each may keep", "[heap]") {
  constexpr uint32_t mib = 1 << 20;
  CHECK(thread_caches::share_of(16 * mib, 0) == 16 * mib);
  CHECK(thread_caches::share_of(16 * mib, 1) == 16 * mib);
  CHECK(thread_caches::share_of(16 * mib, 2) == 4 * mib);
  CHECK(thread_caches::share_of(16 * mib, 3) == mib);
  CHECK(thread_caches::share_of(16 * mib, 4) == mib);
  CHECK(thread_caches::share_of(16 * mib, 8) == mib / 4);
  CHECK(thread_caches::share_of(16 * mib, 1'000'000) == kLeastShareBytes);
  CHECK(thread_caches::share_of(2 * mib, 2) == mib);
  CHECK(thread_caches::share_of(512 << 10, 4) == kLeastShareBytes);
  // A small bound is everybody's.
  CHECK(thread_caches::share_of(64 << 10, 1) == 64 << 10);
  CHECK(thread_caches::share_of(64 << 10, 64) == 64 << 10);
  for (uint32_t bytes = 64 << 10; bytes <= 16 * mib; bytes *= 2) {
    for (uint32_t threads = 1; threads < 1000; ++threads) {
      const uint64_t all = uint64_t{thread_caches::share_of(bytes, threads)} * threads;
      REQUIRE(all <= std::max<uint64_t>(bytes, uint64_t{threads} * kLeastShareBytes));
      REQUIRE(thread_caches::share_of(bytes, threads) >=
              thread_caches::share_of(bytes, threads + 1));
    }
  }
}

TEST_CASE("transfer: one thread more or less does not empty the stacks of the others", "[heap]") {
  for (uint32_t bytes = 64 << 10; bytes <= kCacheBytes; bytes *= 2) {
    for (uint32_t threads = 1; threads < 200; ++threads) {
      const uint32_t fewer = thread_caches::share_of(bytes, threads);
      const uint32_t more = thread_caches::share_of(bytes, threads + 1);
      REQUIRE_FALSE(thread_caches::is_to_follow(bytes, more, fewer));
      REQUIRE(thread_caches::is_to_follow(bytes, fewer, more) == (fewer > more));
    }
  }
  // Many more do.
  CHECK(thread_caches::is_to_follow(kCacheBytes, thread_caches::share_of(kCacheBytes, 3),
                                    kCacheBytes));
  CHECK(thread_caches::is_to_follow(kSharedBytes, thread_caches::share_of(kSharedBytes, 4),
                                    kSharedBytes));
}

TEST_CASE("transfer: a thread that only allocates, or only frees, keeps few", "[heap]") {
  alone([] {
    const unsigned index = class_of(32);
    const ClassInfo& info = kClasses[index];
    std::vector<void*> blocks;
    uint32_t most = 0;
    for (int i = 0; i < 50'000; ++i) {
      blocks.push_back(allocate(32));
      most = std::max(most, cache_owner.cache->stacked(index));
    }
    CHECK(most <= info.eager);
    // It turns once.
    for (void* const block : blocks) {
      release(block);
      most = std::max(most, cache_owner.cache->stacked(index));
    }
    CHECK(most <= 2 * info.eager);
  });
}

TEST_CASE("transfer: the owner's sum of what its stacks hold is that of all classes", "[heap]") {
  // The bound changes, and stacks take room from each other.
  alone([] {
    std::mt19937 random(7);
    std::vector<void*> held(3000, nullptr);
    for (int turn = 0; turn < 60'000; ++turn) {
      void*& slot = held[random() % held.size()];
      release(slot);
      // Small sizes more often; each class is used.
      slot = allocate(size_t{16} << random() % 12 | random() % 4096);
      if (turn % 5'000 == 0) set_cache_bytes(turn % 10'000 == 0 ? 256 << 10 : kCacheBytes);
      if (turn % 20'000 == 19'999) flush_own_cache();
      if (turn % 100 == 0) {
        const ThreadCache& cache = *cache_owner.cache;
        REQUIRE(cache.own_cached_bytes() == cache.cached_bytes());
      }
    }
    for (void* const block : held) release(block);
    CHECK(cache_owner.cache->cached_bytes() > 0);
    CHECK(cache_owner.cache->own_cached_bytes() == cache_owner.cache->cached_bytes());
    const ThreadCache& cache = *cache_owner.cache;
    heap::thread_exit();
    CHECK(cache.own_cached_bytes() == 0);
  });
  set_cache_bytes(kCacheBytes);
}

TEST_CASE("transfer: blocks are never in two places, wherever the stacks lie", "[heap]") {
  alone([] {
    std::mt19937 random(7);
    std::vector<void*> blocks;
    // Tides of growing height, so that stacks move and grow beyond what refills them.
    for (size_t tide = 10; tide < 20'000; tide = tide * 3 / 2) {
      for (int turn = 0; turn < 3; ++turn) {
        while (blocks.size() < tide) {
          auto* const block = static_cast<void**>(allocate(48));
          *block = block;
          blocks.push_back(block);
        }
        for (void* const block : blocks) {
          if (*static_cast<void**>(block) != block) FAIL("a block was handed out twice");
        }
        std::shuffle(blocks.begin(), blocks.end(), random);
        while (blocks.size() > tide / 8) {
          *static_cast<void**>(blocks.back()) = nullptr;
          release(blocks.back());
          blocks.pop_back();
        }
      }
    }
    for (void* const block : blocks) release(block);
    const int64_t live = test::live_bytes();
    flush_own_cache();
    CHECK(test::live_bytes() == live);
    CHECK(cache_owner.cache->cached_bytes() == 0);
  });
}
