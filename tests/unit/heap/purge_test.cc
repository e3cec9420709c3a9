/* Purge and decay: what is free goes back to the kernel, what is live stays, and nothing is done twice. */
#include "heap/purge.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "heap/figures.h"
#include "heap/region.h"
#include "unit/heap/support.h"

using namespace memlimit;
using namespace memlimit::heap;

namespace {

constexpr unsigned kNoBound = UINT32_MAX;

bool is_resident(const void* address) {
  unsigned char state = 0;
  void* const page =
      reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(address) & ~(kPageBytes - 1));
  // Of what is not mapped any more it fails: that is not resident either.
  return mincore(page, 1, &state) == 0 && (state & 1) != 0;
}

std::vector<char*> make_blocks(size_t count, size_t bytes) {
  std::vector<char*> blocks;
  for (size_t i = 0; i < count; ++i) {
    auto* const block = static_cast<char*>(allocate(bytes));
    memset(block, static_cast<int>(i % 100 + 1), bytes);
    blocks.push_back(block);
  }
  return blocks;
}

int64_t fake_now_ms = 1'000'000'000;

}  // namespace

TEST_CASE("purge: pages that only free blocks cover leave, live blocks stay as they are",
          "[heap]") {
  constexpr size_t kBytes = 1000;
  std::vector<char*> blocks = make_blocks(20'000, kBytes);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 50 != 0) release(blocks[i]);
  }
  flush_own_cache();
  const PurgeResult first = purge(kNoBound);
  CHECK(first.complete);
  CHECK(first.bytes > 20'000 * kBytes / 2);
  size_t resident = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 50 != 0) {
      resident += is_resident(blocks[i]);
    } else {
      for (size_t at = 0; at < kBytes; ++at)
        REQUIRE(blocks[i][at] == static_cast<char>(i % 100 + 1));
    }
  }
  // At most the pages of survivors: two each, with four blocks or five to a page.
  CHECK(resident < blocks.size() / 5);
  // Nothing was freed since.
  const PurgeResult second = purge(kNoBound);
  CHECK(second.calls == 0);
  CHECK(second.complete);
  for (size_t i = 0; i < blocks.size(); i += 50) release(blocks[i]);
}

TEST_CASE("purge: of larger pages only whole ones are dropped", "[heap]") {
  CHECK(due_pages(0b1011, 0b0001, 1) == 0b1010);
  CHECK(due_pages(0xffff, 0, 4) == 0xffff);
  CHECK(due_pages(0xff7f, 0, 4) == 0xff0f);
  // One of ours is resident again: all of the kernel's page goes with it.
  CHECK(due_pages(0xffff, 0xfffe, 4) == 0x000f);
  CHECK(due_pages(0xffff, 0xffff, 4) == 0);
  CHECK(due_pages(0xffff, 0x7fff, 16) == 0xffff);
  CHECK(due_pages(0xfffe, 0, 16) == 0);
  // Larger than a slice: none of it is ever ours alone.
  CHECK(due_pages(0xffff, 0, 32) == 0);
}

TEST_CASE("purge: a call makes no more system calls than it may, and the next goes on", "[heap]") {
  std::vector<char*> blocks = make_blocks(4'000, 3000);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 10 != 0) release(blocks[i]);
  }
  flush_own_cache();
  unsigned calls = 0;
  for (int turn = 0;; ++turn) {
    REQUIRE(turn < 100'000);
    const PurgeResult part = purge(10);
    // The last span is finished: sixteen pages are at most eight runs.
    CHECK(part.calls <= 10 + 8);
    calls += part.calls;
    if (part.complete) break;
  }
  CHECK(calls >= 300);
  CHECK(purge(kNoBound).calls == 0);
  for (size_t i = 0; i < blocks.size(); i += 10) release(blocks[i]);
}

TEST_CASE("purge: what other threads freed, and sleep on, goes too", "[heap][threads]") {
  std::vector<char*> blocks;
  test::on_thread([&blocks] {
    blocks = make_blocks(10'000, 2000);
    for (char* const block : blocks) release(block);
  }).join();
  // What this thread keeps of other tests may be of the same spans.
  flush_own_cache();
  purge(kNoBound);
  size_t resident = 0;
  for (char* const block : blocks) resident += is_resident(block);
  CHECK(resident == 0);
}

TEST_CASE("purge: a region is looked at again once something was freed in it", "[heap]") {
  std::vector<char*> blocks = make_blocks(3000, 5000);
  flush_own_cache();
  purge(kNoBound);
  CHECK(hints::find(kFreedSpans) == kNoRegion);
  CHECK(hints::find(kDirtySlices) == kNoRegion);
  for (char* const block : blocks) release(block);
  flush_own_cache();
  CHECK(hints::find(kFreedSpans) != kNoRegion);
  const PurgeResult result = purge(kNoBound);
  CHECK(result.bytes >= 3000 * 5000 - 16 * kSliceBytes);
  CHECK(hints::find(kFreedSpans) == kNoRegion);
}

TEST_CASE("purge: threads that work meanwhile lose nothing", "[heap][threads]") {
  std::atomic<bool> stop{false};
  std::atomic<int> broken{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.push_back(test::on_thread([&, t] {
      std::vector<unsigned*> blocks(200, nullptr);
      for (unsigned i = t; i < 60'000; ++i) {
        unsigned*& block = blocks[i * 7919 % 200];
        if (block != nullptr && (block[0] != block[1] || block[0] != block[100])) ++broken;
        release(block);
        block = static_cast<unsigned*>(allocate(404 + i * 31 % 3000));
        block[0] = block[1] = block[100] = i;
      }
      for (unsigned* const block : blocks) release(block);
    }));
  }
  std::thread purger([&stop] {
    while (!stop) purge(50);
  });
  for (std::thread& thread : threads) thread.join();
  stop = true;
  purger.join();
  CHECK(broken == 0);
}

TEST_CASE("purge: what the kernel refuses to drop is neither clean nor tried for ever", "[heap]") {
  constexpr size_t kBytes = 256 << 10;
  auto* const block = static_cast<char*>(allocate(kBytes));
  memset(block, 'x', kBytes);
  // Locked pages cannot be dropped. By the call itself: under sanitizers mlock() does nothing.
  REQUIRE(syscall(SYS_mlock, block, kBytes) == 0);
  release(block);
  CHECK(purge(kNoBound).complete);
  CHECK(is_resident(block));
  bool found = false;
  std::vector<char*> others;
  for (int i = 0; i < 1000 && !found; ++i) {
    others.push_back(static_cast<char*>(allocate_zeroed(kBytes)));
    found = others.back() == block;
  }
  REQUIRE(found);
  CHECK(std::count(block, block + kBytes, '\0') == kBytes);
  REQUIRE(syscall(SYS_munlock, block, kBytes) == 0);
  for (char* const other : others) release(other);
}

TEST_CASE("decay: slices go back once they have been free for the delay", "[heap]") {
  HeapOps ops = test::quiet_ops();
  ops.now_ms = []() noexcept { return fake_now_ms; };
  const test::OpsScope scope(ops);
  decay::set_delay_ms(50);
  auto* const kept = static_cast<char*>(allocate(100'000));
  auto* const block = static_cast<char*>(allocate(1'000'000));
  memset(block, 1, 1'000'000);
  fake_now_ms += 1000;
  decay::note_free_slices();
  release(block);
  CHECK(is_resident(block));
  fake_now_ms += 20;
  decay::note_free_slices();
  CHECK(is_resident(block));
  fake_now_ms += 40;
  decay::note_free_slices();  // has it seen free for the first time
  CHECK(is_resident(block));
  fake_now_ms += 51;
  decay::note_free_slices();
  CHECK_FALSE(is_resident(block));
  release(kept);
}

TEST_CASE("decay: what was used again between two looks is not idle", "[heap]") {
  HeapOps ops = test::quiet_ops();
  ops.now_ms = []() noexcept { return fake_now_ms; };
  const test::OpsScope scope(ops);
  decay::set_delay_ms(50);
  auto* block = static_cast<char*>(allocate(1'000'000));
  // Its release looks, too, and would already see it free where the last look is long ago.
  fake_now_ms += 51;
  decay::note_free_slices();
  for (int i = 0; i < 5; ++i) {
    memset(block, 1, 1'000'000);
    release(block);
    fake_now_ms += 51;
    decay::note_free_slices();
    CHECK(is_resident(block));
    void* const again = allocate(1'000'000);
    if (again != block) {
      WARN("skipped: other tests have left runs of this size");
      release(again);
      return;
    }
  }
  release(block);
}

TEST_CASE("decay: spans that stay empty become free slices", "[heap]") {
  HeapOps ops = test::quiet_ops();
  ops.now_ms = []() noexcept { return fake_now_ms; };
  const test::OpsScope scope(ops);
  decay::set_delay_ms(50);
  const unsigned class_index = class_of(7000);
  std::vector<char*> blocks = make_blocks(200, 7000);
  const int64_t spans_before = figures::of_class(class_index).spans;
  for (char* const block : blocks) release(block);
  flush_own_cache();
  for (int i = 0; i < 4; ++i) {
    fake_now_ms += 51;
    decay::note_free_slices();
  }
  CHECK(figures::of_class(class_index).spans <= spans_before - 20);
  for (char* const block : blocks) CHECK_FALSE(is_resident(block));
}

TEST_CASE("decay: a program of small blocks alone comes by, when spans fall empty", "[heap]") {
  HeapOps ops = test::quiet_ops();
  ops.now_ms = []() noexcept { return fake_now_ms; };
  const test::OpsScope scope(ops);
  decay::set_delay_ms(50);
  std::vector<char*> blocks = make_blocks(400, 9000);
  for (char* const block : blocks) release(block);
  flush_own_cache();
  // Nothing of this is large: each turn empties a span or two of another class.
  for (int i = 0; i < 6; ++i) {
    fake_now_ms += 51;
    const size_t bytes = 12'000 + 2'000 * static_cast<size_t>(i);
    for (char* const block : make_blocks(20, bytes)) release(block);
    flush_own_cache();
  }
  size_t resident = 0;
  for (char* const block : blocks) resident += is_resident(block);
  CHECK(resident < 100);
}
