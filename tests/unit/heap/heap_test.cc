/* The heap as its callers see it: blocks of every size and alignment, exact counts, threads, forks, misuse, no memory. */
#include "heap/heap.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "heap/figures.h"
#include "heap/huge.h"
#include "heap/purge.h"
#include "heap/region.h"
#include "unit/heap/support.h"

using namespace memlimit;
using namespace memlimit::heap;
using test::live_bytes;
using test::on_thread;

namespace {

constexpr size_t kMiB = size_t{1} << 20;

struct Block {
  unsigned char* address;
  size_t bytes;
  unsigned char fill;
};

Block make_block(size_t bytes, unsigned char fill) {
  auto* const address = static_cast<unsigned char*>(allocate(bytes));
  if (address == nullptr) return {};
  memset(address, fill, bytes);
  return {address, bytes, fill};
}

bool is_intact(const Block& block) {
  for (size_t i = 0; i < block.bytes; ++i) {
    if (block.address[i] != block.fill) return false;
  }
  return true;
}

std::vector<size_t> sizes_of_interest() {
  std::vector<size_t> sizes = {0, 1};
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    const size_t bytes = kClasses[i].block_bytes;
    for (const size_t size : {bytes - 1, bytes, bytes + 1}) sizes.push_back(size);
  }
  for (const size_t bytes : {kSliceBytes, 5 * kSliceBytes, kRegionBytes, 5 * kMiB, 40 * kMiB}) {
    for (const size_t size : {bytes - 1, bytes, bytes + 1}) sizes.push_back(size);
  }
  return sizes;
}

/* Runs in a child of fork; returns what it wrote to standard error and how it ended. */
template <typename Function>
std::string in_child(Function function, int* status) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    // The test framework's handler would report the abort that is wanted.
    std::signal(SIGABRT, SIG_DFL);
    dup2(ends[1], 2);
    heap::reset_after_fork();
    function();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char buffer[256];
  for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  close(ends[0]);
  waitpid(child, status, 0);
  return text;
}

}  // namespace

TEST_CASE("heap: blocks of every size are aligned, apart from each other and as large as they say",
          "[heap]") {
  const int64_t before = live_bytes();
  std::vector<Block> blocks;
  int64_t usable = 0;
  for (const size_t bytes : sizes_of_interest()) {
    for (int copy = 0; copy < 2; ++copy) {
      void* const address = allocate(bytes);
      REQUIRE(address != nullptr);
      CHECK(reinterpret_cast<uintptr_t>(address) % kMinimumAlignment == 0);
      const size_t block_bytes = usable_bytes(address);
      CHECK(block_bytes >= bytes);
      CHECK(block_bytes == good_size(bytes));
      const auto fill = static_cast<unsigned char>(blocks.size() * 7 + 1);
      memset(address, fill, block_bytes);
      blocks.push_back({static_cast<unsigned char*>(address), block_bytes, fill});
      usable += static_cast<int64_t>(block_bytes);
    }
  }
  CHECK(live_bytes() - before == usable);
  for (const Block& block : blocks) {
    if (!is_intact(block)) FAIL("a block of " << block.bytes << " bytes was overwritten");
  }
  for (const Block& block : blocks) release(block.address);
  CHECK(live_bytes() == before);
}

TEST_CASE("heap: alignments up to 64 MiB hold, for every size", "[heap]") {
  for (size_t alignment = 1; alignment <= 64 * kMiB; alignment *= 2) {
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{100}, size_t{1000}, size_t{5000},
                               size_t{40000}, 3 * kMiB, 9 * kMiB}) {
      void* const block = allocate_aligned(alignment, bytes);
      REQUIRE(block != nullptr);
      CHECK(reinterpret_cast<uintptr_t>(block) % alignment == 0);
      CHECK(usable_bytes(block) >= bytes);
      memset(block, 1, bytes);
      release(block);
    }
  }
  CHECK(allocate_aligned(64, SIZE_MAX - 10) == nullptr);
  CHECK(allocate_aligned(size_t{1} << 62, 1) == nullptr);
  CHECK(allocate(SIZE_MAX) == nullptr);
  CHECK(allocate(PTRDIFF_MAX) == nullptr);
}

TEST_CASE("heap: zeroed blocks are zero where the memory was used before", "[heap]") {
  for (const size_t bytes : {size_t{1}, size_t{100}, size_t{1024}, size_t{1025}, size_t{30000},
                             size_t{100000}, 2 * kMiB, 6 * kMiB}) {
    for (int turn = 0; turn < 3; ++turn) {
      auto* const block = static_cast<unsigned char*>(allocate_zeroed(bytes));
      REQUIRE(block != nullptr);
      CHECK(is_intact({block, bytes, 0}));
      memset(block, 0xff, bytes);
      release(block);
    }
  }
}

TEST_CASE("heap: a block that is resized keeps its content and is counted", "[heap]") {
  const int64_t before = live_bytes();
  for (const size_t bytes : {100 * kPageBytes, 3 * kMiB, 6 * kMiB, 20 * kMiB}) {
    Block block = make_block(bytes, 7);
    for (const size_t next : {bytes + kPageBytes, bytes * 2, bytes * 2 - 5 * kPageBytes, bytes}) {
      void* const resized = resize(block.address, next);
      if (resized == nullptr) continue;
      block.address = static_cast<unsigned char*>(resized);
      block.bytes = std::min(block.bytes, next);
      CHECK(usable_bytes(resized) >= next);
      CHECK(is_intact(block));
      CHECK(live_bytes() - before == static_cast<int64_t>(usable_bytes(resized)));
      memset(block.address, 7, next);
      block.bytes = next;
    }
    release(block.address);
  }
  // Huge blocks grow, whether or not there is room behind them.
  Block huge = make_block(8 * kMiB, 3);
  void* const behind = allocate(8 * kMiB);
  void* const grown = resize(huge.address, 64 * kMiB);
  REQUIRE(grown != nullptr);
  CHECK(is_intact({static_cast<unsigned char*>(grown), 8 * kMiB, 3}));
  release(grown);
  release(behind);
  CHECK(live_bytes() == before);
}

TEST_CASE("heap: no block becomes larger than there is address space", "[heap]") {
  // Sizes whose number of slices is, in 32 bits, less than the block has.
  const int64_t live = live_bytes();
  for (const size_t have : {size_t{100'000}, size_t{6} << 20}) {
    void* block = allocate(have);
    for (unsigned shift = 32; shift < 63; ++shift) {
      const size_t bytes = size_t{1} << shift;
      // Huge blocks do grow, while the kernel gives addresses.
      void* const resized = resize(block, bytes);
      if (resized == nullptr) continue;
      CHECK(have > kRegionBytes);
      CHECK(usable_bytes(resized) >= bytes);
      block = resize(resized, have);
      REQUIRE(block != nullptr);
    }
    release(block);
  }
  CHECK(live_bytes() == live);
}

TEST_CASE("heap: counts are exact whatever threads come, go and free for each other",
          "[heap][threads]") {
  constexpr int kThreads = 4;
  constexpr int kTurns = 20'000;
  const int64_t before = live_bytes();
  const uint64_t allocated_before = figures::totals().allocated_bytes;
  std::atomic<void*> exchange[64] = {};
  std::atomic<uint64_t> allocated{0};
  std::atomic<bool> broken{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.push_back(on_thread([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < kTurns; ++i) {
        const size_t bytes = random() % (i % 64 == 0 ? 200'000 : 2'000);
        auto* const block = static_cast<size_t*>(allocate(std::max<size_t>(bytes, sizeof(size_t))));
        allocated += usable_bytes(block);
        *block = usable_bytes(block);
        void* const other = exchange[random() % 64].exchange(block);
        if (other == nullptr) continue;
        if (*static_cast<size_t*>(other) != usable_bytes(other)) broken = true;
        release(other);
      }
    }));
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(broken);
  int64_t left = 0;
  for (auto& slot : exchange) left += static_cast<int64_t>(usable_bytes(slot.load()));
  CHECK(live_bytes() - before == left);
  CHECK(figures::totals().allocated_bytes - allocated_before == allocated);
  ClassFigures classes[kBins];
  figures::by_class(classes);
  int64_t by_class = 0;
  for (const ClassFigures& figures : classes) by_class += figures.live_bytes;
  const HeapFigures totals = figures::totals();
  CHECK(by_class - static_cast<int64_t>(totals.lost_bytes) == totals.live_bytes());
  for (auto& slot : exchange) release(slot.load());
  CHECK(live_bytes() == before);
}

TEST_CASE("heap: figures by class tell what each block is", "[heap]") {
  const auto rows = [] {
    std::vector<ClassFigures> all(kBins);
    figures::by_class(*reinterpret_cast<ClassFigures(*)[kBins]>(all.data()));
    return all;
  };
  flush_own_cache();
  const std::vector<ClassFigures> before = rows();
  void* const small = allocate(5000);
  void* const large = allocate(100'000);
  void* const huge = allocate(9 * kMiB);
  const std::vector<ClassFigures> with = rows();
  for (const auto& [block, index] : {std::pair{small, class_of(5000)},
                                     {large, unsigned{kLargeClass}},
                                     {huge, unsigned{kHugeClass}}}) {
    INFO("class " << index);
    CHECK(with[index].live_blocks == before[index].live_blocks + 1);
    CHECK(with[index].live_bytes ==
          before[index].live_bytes + static_cast<int64_t>(usable_bytes(block)));
  }
  const ClassFigures& figures = with[class_of(5000)];
  CHECK(figures.block_bytes == usable_bytes(small));
  CHECK(figures.cached_blocks == cache_owner.cache->stacked(class_of(5000)));
  CHECK(figures.live_blocks + figures.free_blocks + figures.cached_blocks ==
        figures.spans * kClasses[class_of(5000)].blocks);
  for (void* const block : {small, large, huge}) release(block);
  flush_own_cache();
  const std::vector<ClassFigures> after = rows();
  for (unsigned i = 1; i < kBins; ++i) CHECK(after[i].live_bytes == before[i].live_bytes);
}

TEST_CASE("heap: a thread whose cache is gone still allocates and frees", "[heap][threads]") {
  const int64_t before = live_bytes();
  std::thread([] {
    void* const early = allocate(100);
    heap::thread_exit();
    void* const late = allocate(200);
    void* const large = allocate(100'000);
    memset(late, 1, 200);
    release(early);
    release(late);
    release(large);
    heap::thread_exit();
    release(allocate(50));
  }).join();
  CHECK(live_bytes() == before);
}

TEST_CASE("heap: read while threads work, the live bytes are never below what is there",
          "[heap][threads]") {
  const int64_t before = live_bytes();
  constexpr int kThreads = 4, kTurns = 60'000;
  // What each thread allocates, another one frees; there is next to nothing at any time.
  std::vector<std::atomic<void*>> shelf(2);
  std::atomic<bool> stop{false};
  int64_t lowest = 0;
  std::thread reader = on_thread([&] {
    while (!stop.load()) lowest = std::min(lowest, live_bytes() - before);
  });
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.push_back(on_thread([&, t] {
      std::minstd_rand random(t + 1);
      for (int i = 0; i < kTurns; ++i) {
        const auto place = random() % shelf.size();
        release(shelf[place].exchange(i % 4 == 3 ? nullptr : allocate(random() % 600)));
      }
    }));
  }
  for (auto& thread : threads) thread.join();
  stop.store(true);
  reader.join();
  CHECK(lowest >= 0);
  for (auto& block : shelf) release(block.load());
  CHECK(live_bytes() == before);
}

TEST_CASE("heap: the cache of a thread that ended serves the next", "[heap][threads]") {
  on_thread([] { release(allocate(10)); }).join();
  const auto count = [] {
    int caches = 0;
    for (auto* cache = thread_caches::all(); cache != nullptr; cache = cache->next) ++caches;
    return caches;
  };
  const int caches = count();
  for (int i = 0; i < 50; ++i) on_thread([] { release(allocate(10)); }).join();
  CHECK(count() == caches);
}

TEST_CASE("heap: a thread looks up once in a quantum", "[heap]") {
  static uint64_t looks, taken, returned;
  static int64_t stacked;
  HeapOps ops = test::quiet_ops();
  ops.publish = [](const News& news) noexcept {
    taken += news.taken_bytes;
    returned += news.returned_bytes;
    stacked += news.stacked_bytes;
  };
  ops.look = [](uint64_t) noexcept {
    ++looks;
    // It may use the heap.
    release(allocate(24));
  };
  release(allocate(24));
  // Small stacks, whatever other tests have left: a thread looks at most once a refill.
  set_cache_bytes(64 << 10);
  look_at_next_allocation();
  release(allocate(24));
  const test::OpsScope scope(ops);
  set_quantum_bytes(16 << 10);
  publish_own();
  looks = taken = returned = 0;
  stacked = 0;
  const int64_t live_before = live_bytes();
  std::vector<void*> blocks;
  for (int i = 0; i < 10'000; ++i) blocks.push_back(allocate(1000));
  CHECK(looks >= 200);
  CHECK(taken >= 10'000 * 1000 - (64 << 10));
  publish_own();
  const auto told = static_cast<int64_t>(taken - returned) - stacked;
  CHECK(told == live_bytes() - live_before);
  for (void* const block : blocks) release(block);
  CHECK(returned >= 10'000 * 1000 - (128 << 10));
  publish_own();
  CHECK(static_cast<int64_t>(taken - returned) - stacked == live_bytes() - live_before);

  looks = 0;
  look_at_next_allocation();
  release(blocks[0] = nullptr);
  void* const small = allocate(16);
  CHECK(looks == 1);
  release(small);
  set_quantum_bytes(64 << 10);
  set_cache_bytes(kCacheBytes);
}

TEST_CASE("heap: a thread that ends has told all it has done", "[heap][threads]") {
  static std::atomic<int64_t> told;
  HeapOps ops = test::quiet_ops();
  ops.publish = [](const News& news) noexcept {
    told += static_cast<int64_t>(news.taken_bytes - news.returned_bytes) - news.stacked_bytes;
  };
  publish_own();
  const test::OpsScope scope(ops);
  told = 0;
  const int64_t before = live_bytes();
  std::vector<void*> blocks(40);
  for (void*& block : blocks) on_thread([&] { block = allocate(100); }).join();
  CHECK(live_bytes() - before >= 40 * 100);
  CHECK(told == live_bytes() - before);
  for (void* const block : blocks) on_thread([&] { release(block); }).join();
  CHECK(told == 0);
}

TEST_CASE("heap: what is freed wrongly ends the process with a line that names it",
          "[heap][fork]") {
  int status = 0;
  void* const block = allocate(100);
  void* const large = allocate(100'000);
  char address[32];
  std::snprintf(address, sizeof address, "0x%llx",
                static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(block)));
  std::string said = in_child([&] { release(block), release(block); }, &status);
  CHECK(WTERMSIG(status) == SIGABRT);
  CHECK(said ==
        "memlimit: free(): double free of " + std::string(address) + " (a block of 112 bytes)\n");

  said = in_child(
      [&] {
        void* const other = allocate(100);
        release(block), release(other), release(block);
        flush_own_cache();
      },
      &status);
  CHECK(WTERMSIG(status) == SIGABRT);
  CHECK(said.find("double free of " + std::string(address)) != std::string::npos);

  said = in_child([&] { release(static_cast<char*>(block) + 8), flush_own_cache(); }, &status);
  CHECK(WTERMSIG(status) == SIGABRT);
  CHECK(said.find("invalid pointer") != std::string::npos);

  said = in_child([&] { release(large), release(large); }, &status);
  CHECK(WTERMSIG(status) == SIGABRT);
  CHECK(said.find("invalid pointer") != std::string::npos);

  said = in_child([&] { release(static_cast<char*>(large) + kSliceBytes); }, &status);
  CHECK(WTERMSIG(status) == SIGABRT);
  release(block);
  release(large);
}

TEST_CASE("heap: pointers of others are handed to whoever knows them", "[heap]") {
  static void* freed;
  HeapOps ops = test::quiet_ops();
  ops.foreign_free = [](void* block) noexcept { freed = block; };
  ops.foreign_usable = [](const void*) noexcept { return size_t{123}; };
  const test::OpsScope scope(ops);
  int local = 0;
  release(&local);
  CHECK(freed == &local);
  CHECK(usable_bytes(&local) == 123);
  CHECK(usable_bytes(nullptr) == 0);
  freed = nullptr;
  release(nullptr);
  CHECK(freed == nullptr);
}

TEST_CASE("heap: the child of a fork goes on, and counts right", "[heap][fork][threads]") {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.push_back(on_thread([&stop] {
      std::vector<void*> blocks(100);
      for (unsigned i = 0; !stop; ++i) {
        release(blocks[i % 100]);
        blocks[i % 100] = allocate(i % 3000);
      }
      for (void* const block : blocks) release(block);
    }));
  }
  for (int i = 0; i < 20; ++i) {
    int status = -1;
    const std::string said = in_child(
        [] {
          const int64_t before = live_bytes();
          std::vector<Block> blocks;
          for (unsigned char n = 0; n < 200; ++n) blocks.push_back(make_block(n * 37U, n));
          int64_t usable = 0;
          for (const Block& block : blocks) {
            if (!is_intact(block)) _exit(1);
            usable += static_cast<int64_t>(usable_bytes(block.address));
          }
          if (live_bytes() - before != usable) _exit(2);
          for (const Block& block : blocks) release(block.address);
          if (live_bytes() != before) _exit(3);
          purge(UINT32_MAX);
        },
        &status);
    CHECK(said.empty());
    CHECK(status == 0);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

namespace {

/* Fails at its k-th mapping and all that follow, until told otherwise. */
std::atomic<int> mappings_left{INT32_MAX};

bool may_map() { return mappings_left.fetch_sub(1) > 0; }

void* map_or_fail(size_t bytes, size_t alignment) noexcept {
  if (!may_map()) return nullptr;
  void* const all = mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<uintptr_t>(all);
  const uintptr_t aligned = (begin + alignment - 1) & ~(alignment - 1);
  if (aligned > begin) munmap(all, aligned - begin);
  munmap(reinterpret_cast<void*>(aligned + bytes), begin + alignment - aligned);
  return reinterpret_cast<void*>(aligned);
}

void unmap(void* address, size_t bytes) noexcept { munmap(address, bytes); }

void* cannot_resize(void*, size_t, size_t, bool) noexcept { return nullptr; }

constexpr PageSource kFailing = {map_or_fail, unmap, map_or_fail, unmap, cannot_resize};

}  // namespace

TEST_CASE("heap: out of memory at each mapping is survived, and nothing leaks", "[heap]") {
  const test::SourceScope scope(kFailing);
  for (int k = 0; k < 12; ++k) {
    purge(UINT32_MAX);
    const int64_t before = live_bytes();
    mappings_left = k;
    std::vector<Block> blocks;
    bool failed = false;
    for (int i = 0; i < 12; ++i) {
      for (const size_t bytes :
           {size_t{3 * kMiB}, size_t{500'000}, size_t{9 * kMiB}, size_t{20'000}}) {
        const Block block = make_block(bytes, static_cast<unsigned char>(i));
        if (block.address != nullptr) blocks.push_back(block);
        failed = failed || block.address == nullptr;
      }
    }
    CHECK(failed);
    for (const Block& block : blocks) {
      CHECK(is_intact(block));
      release(block.address);
    }
    CHECK(live_bytes() == before);
  }
  mappings_left = INT32_MAX;
  purge(UINT32_MAX);
}

TEST_CASE("heap: a small block with a huge alignment shares its record with no other", "[heap]") {
  const int64_t before = live_bytes();
  std::vector<Block> blocks;
  for (unsigned char i = 0; i < 12; ++i) {
    void* const aligned = allocate_aligned(8 * kMiB, 100);
    REQUIRE(aligned != nullptr);
    memset(aligned, i, 100);
    blocks.push_back({static_cast<unsigned char*>(aligned), 100, i});
    // Where the kernel puts it: often right behind.
    blocks.push_back(make_block(5 * kMiB, static_cast<unsigned char>(i + 100)));
  }
  for (const Block& block : blocks) {
    CHECK(usable_bytes(block.address) >= block.bytes);
    CHECK(is_intact(block));
  }
  for (const Block& block : blocks) release(block.address);
  CHECK(live_bytes() == before);
}

TEST_CASE("heap: a thread's stacks hold no more than the bound, once it has looked", "[heap]") {
  const auto cached_after_work = [] {
    std::vector<void*> blocks;
    for (size_t i = 0; i < 20'000; ++i) blocks.push_back(allocate(i * 97 % 8000));
    for (void* const block : blocks) release(block);
    look_at_next_allocation();
    release(allocate(16));
    return cache_owner.cache->cached_bytes();
  };
  cached_after_work();
  set_cache_bytes(64 << 10);
  look_at_next_allocation();
  release(allocate(16));
  CHECK(cached_after_work() <= 64 << 10);
  set_cache_bytes(kCacheBytes);
  const uint64_t cached = cached_after_work();
  CHECK(cached <= kCacheBytes);
  CHECK(cached > 128 << 10);
}

TEST_CASE("heap: whoever sets errno is told that there is no memory, once", "[heap]") {
  static int told;
  HeapOps ops = test::quiet_ops();
  ops.out_of_memory = []() noexcept { ++told; };
  const test::OpsScope scope(ops);
  CHECK(allocate(SIZE_MAX) == nullptr);
  CHECK(told == 1);
  CHECK(allocate_zeroed(SIZE_MAX / 2) == nullptr);
  CHECK(told == 2);
  CHECK(allocate_aligned(4096, SIZE_MAX - 10) == nullptr);
  CHECK(told == 3);
}

/* From the first allocation on every thread gets a cache, whichever test comes first: without it only the first thread
 * that asks does. */
namespace memlimit::heap {
constinit const HeapOps heap_ops_at_start = memlimit::test::quiet_ops();
}  // namespace memlimit::heap
