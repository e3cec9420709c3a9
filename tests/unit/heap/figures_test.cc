/* What the heap says it holds: by class, by thread and in sum, to the byte when nobody is at work. */
#include "heap/figures.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "heap/purge.h"
#include "heap/region.h"
#include "unit/heap/support.h"

using namespace memlimit;
using namespace memlimit::heap;
using test::on_thread;

namespace {

constexpr size_t kMiB = size_t{1} << 20;

struct Classes {
  ClassFigures of[kBins];

  Classes() noexcept { figures::by_class(of); }

  template <typename Figure>
  int64_t sum(Figure ClassFigures::*figure, unsigned first = 0) const noexcept {
    int64_t all = 0;
    for (unsigned i = first; i < kBins; ++i) all += of[i].*figure;
    return all;
  }
};

}  // namespace

TEST_CASE("figures: blocks are found in their classes, and the sums are the totals",
          "[heap][threads]") {
  constexpr size_t kBlocks = 1000;
  const unsigned index = class_of(700);
  const Classes before;
  std::vector<void*> blocks, large, huge;
  std::atomic<bool> made{false}, stop{false};
  std::vector<void*> others(kBlocks);
  std::thread other = on_thread([&] {
    for (void*& block : others) block = allocate(700);
    for (size_t i = 0; i < 10; ++i) release(others[i]);
    made = true;
    while (!stop) std::this_thread::yield();
    for (size_t i = 10; i < kBlocks; ++i) release(others[i]);
  });
  while (!made) std::this_thread::yield();
  for (size_t i = 0; i < kBlocks; ++i) blocks.push_back(allocate(700));
  for (size_t i = 0; i < 3; ++i) large.push_back(allocate(100'000));
  for (size_t i = 0; i < 2; ++i) huge.push_back(allocate(6 * kMiB));

  const Classes now;
  const HeapFigures totals = figures::totals();
  const IdleFigures idle = figures::idle(totals);
  CHECK(now.of[index].live_blocks - before.of[index].live_blocks == 2 * kBlocks - 10);
  CHECK(now.of[index].cached_blocks >= 10);
  CHECK(now.of[index].popped_blocks - before.of[index].popped_blocks == 2 * kBlocks);
  CHECK(now.of[index].block_bytes == usable_bytes(blocks[0]));
  CHECK(now.of[kLargeClass].live_blocks - before.of[kLargeClass].live_blocks == 3);
  CHECK(now.of[kLargeClass].live_bytes - before.of[kLargeClass].live_bytes ==
        static_cast<int64_t>(3 * usable_bytes(large[0])));
  CHECK(now.of[kLargeClass].spans - before.of[kLargeClass].spans == 6);
  CHECK(now.of[kHugeClass].live_blocks - before.of[kHugeClass].live_blocks == 2);
  CHECK(now.sum(&ClassFigures::live_bytes) == totals.live_bytes());
  CHECK(now.of[kLargeClass].live_bytes == static_cast<int64_t>(totals.large_bytes));
  CHECK(now.of[kHugeClass].live_bytes == static_cast<int64_t>(totals.huge_bytes));

  int64_t small_spans = 0, free_bytes = 0, cached_bytes = 0;
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    small_spans += now.of[i].spans;
    free_bytes += now.of[i].free_blocks * now.of[i].block_bytes;
    cached_bytes += now.of[i].cached_blocks * now.of[i].block_bytes;
  }
  CHECK(cached_bytes == static_cast<int64_t>(totals.cached_bytes));
  CHECK(idle.spans == small_spans);
  CHECK(idle.free_bytes == free_bytes);
  CHECK(idle.huge.blocks == static_cast<size_t>(now.of[kHugeClass].live_blocks));
  CHECK(idle.huge.most_bytes >= idle.huge.mapped_bytes);
  // Each slice of a region is a span, a part of a large block, or free.
  CHECK((small_spans + now.of[kLargeClass].spans + now.of[kNoClass].free_blocks) *
            static_cast<int64_t>(kSliceBytes) ==
        static_cast<int64_t>(totals.region_bytes));

  for (const auto* const group : {&blocks, &large, &huge}) {
    for (void* const block : *group) release(block);
  }
  stop = true;
  other.join();
  const Classes after;
  CHECK(after.sum(&ClassFigures::live_bytes) == figures::totals().live_bytes());
  CHECK(after.of[index].live_blocks == before.of[index].live_blocks);
  CHECK(figures::idle(figures::totals()).huge.kept_bytes >= 12 * kMiB);
  huge::drop_kept(false);
}

TEST_CASE("figures: a purge gives back at most what they say, and nothing is left then", "[heap]") {
  purge(UINT32_MAX);
  std::vector<char*> blocks;
  for (size_t i = 0; i < 20'000; ++i) {
    auto* const block = static_cast<char*>(allocate(1000));
    memset(block, 1, 1000);
    blocks.push_back(block);
  }
  auto* const large = static_cast<char*>(allocate(2 * kMiB));
  memset(large, 1, 2 * kMiB);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 50 != 0) release(blocks[i]);
  }
  release(large);
  flush_own_cache();
  const int64_t purgeable = Classes().sum(&ClassFigures::purgeable_bytes);
  const auto purged = static_cast<int64_t>(purge(UINT32_MAX).bytes);
  CHECK(purged > 10'000'000);
  CHECK(purged <= purgeable);
  CHECK(Classes().sum(&ClassFigures::purgeable_bytes) == 0);
  for (size_t i = 0; i < blocks.size(); i += 50) release(blocks[i]);
}

TEST_CASE("figures: regions that were given back are not counted where others are", "[heap]") {
  // Chunks come and go: their records stay, and the addresses are used again.
  for (int turn = 0; turn < 4; ++turn) {
    std::vector<void*> blocks;
    for (size_t i = 0; i < 40; ++i) blocks.push_back(allocate(kMiB + kMiB / 2 * (i % 3)));
    const size_t huge_bytes = (turn + 2) * 8 * kMiB;
    blocks.push_back(allocate(huge_bytes));
    const Classes now;
    CHECK(now.sum(&ClassFigures::live_bytes) == figures::totals().live_bytes());
    for (void* const block : blocks) release(block);
    purge(UINT32_MAX);
  }
}

TEST_CASE("figures: what the child of a fork gives up is nobody's", "[heap][fork][threads]") {
  std::atomic<bool> made{false}, stop{false};
  std::thread other = on_thread([&] {
    std::vector<void*> blocks(1000);
    for (void*& block : blocks) block = allocate(48);
    for (void* const block : blocks) release(block);
    made = true;
    while (!stop) std::this_thread::yield();
  });
  while (!made) std::this_thread::yield();
  const pid_t child = fork();
  if (child == 0) {
    heap::reset_after_fork();
    const HeapFigures totals = figures::totals();
    const Classes now;
    if (totals.lost_bytes == 0) _exit(1);
    if (now.sum(&ClassFigures::live_bytes) != totals.live_bytes()) _exit(2);
    int64_t live = figures::other_threads().live_bytes();
    figures::for_each_thread([](const ThreadFigures& thread,
                                void* sum) { *static_cast<int64_t*>(sum) += thread.live_bytes(); },
                             &live);
    if (live != totals.live_bytes()) _exit(4);
    const IdleFigures idle = figures::idle(totals);
    int64_t free_bytes = 0;
    for (unsigned i = 1; i <= kSmallClasses; ++i)
      free_bytes += now.of[i].free_blocks * now.of[i].block_bytes;
    _exit(idle.free_bytes == free_bytes ? 0 : 3);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  stop = true;
  other.join();
}

TEST_CASE("figures: a thread knows what it has allocated and freed since it began",
          "[heap][threads]") {
  void* const foreign = allocate(700);
  // The second has the cache of the first.
  for (int turn = 0; turn < 2; ++turn) {
    std::thread thread = on_thread([&] {
      CHECK(figures::own().allocated_bytes == 0);
      void* const small = allocate(100);
      void* const large = allocate(100'000);
      void* const huge = allocate(6 * kMiB);
      const uint64_t bytes = usable_bytes(small) + usable_bytes(large) + usable_bytes(huge);
      CHECK(figures::own().allocated_bytes == bytes);
      CHECK(figures::own().freed_bytes == 0);
      release(large);
      release(huge);
      if (turn == 1) release(foreign);
      CHECK(figures::own().allocated_bytes == bytes);
      CHECK(figures::own().freed_bytes ==
            bytes - usable_bytes(small) + (turn == 1 ? kClasses[class_of(700)].block_bytes : 0));
      release(small);
    });
    thread.join();
  }
}

TEST_CASE("figures: each thread has a row while it owns a cache", "[heap][threads]") {
  struct Found {
    int32_t tid;
    ThreadFigures figures;
  };
  const auto find = [](int32_t tid) {
    Found found{tid, {}};
    figures::for_each_thread(
        [](const ThreadFigures& row, void* arg) {
          auto* const wanted = static_cast<Found*>(arg);
          if (row.tid == wanted->tid) wanted->figures = row;
        },
        &found);
    return found.figures;
  };
  std::atomic<int32_t> tid{0};
  std::atomic<bool> stop{false};
  std::thread other = on_thread([&] {
    void* const first = allocate(1000);
    void* const second = allocate(1'000'000);
    tid = static_cast<int32_t>(gettid());
    while (!stop) std::this_thread::yield();
    release(first);
    release(second);
  });
  while (tid == 0) std::this_thread::yield();
  const ThreadFigures row = find(tid);
  int64_t live = figures::other_threads().live_bytes();
  figures::for_each_thread([](const ThreadFigures& thread,
                              void* sum) { *static_cast<int64_t*>(sum) += thread.live_bytes(); },
                           &live);
  CHECK(live == figures::totals().live_bytes());
  CHECK(row.tid == tid);
  CHECK(row.cached_bytes > 0);
  // Exactly that, though others had the cache before, but for what the thread itself came with.
  CHECK(row.live_bytes() >= 1'000'000 + 1000);
  CHECK(row.live_bytes() < 1'020'000);
  stop = true;
  other.join();
  CHECK(find(tid).tid == 0);
}
