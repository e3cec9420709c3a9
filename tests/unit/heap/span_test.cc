/* Spans: a bit has one owner, and a class changes only with all of them. */
#include "heap/span.h"

#include <atomic>
#include <bit>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "heap/hints.h"
#include "heap/purge.h"

using namespace memlimit;
using namespace memlimit::heap;

namespace {

/* A class that nothing else in this program uses, so that what it has is known. */
const unsigned kClass = class_of(29'000);
const unsigned kTiny = class_of(16);

uint64_t claim_all(SpanRef span, unsigned class_index) {
  uint64_t got = 0;
  for (unsigned i = 0; i < kClasses[class_index].words; ++i) {
    got += static_cast<uint64_t>(std::popcount(spans::claim(span, class_index, i, ~uint64_t{0})));
  }
  return got;
}

void return_all(SpanRef span, unsigned class_index) {
  for (unsigned i = 0; i < kClasses[class_index].words; ++i) {
    REQUIRE(spans::return_blocks(span, class_index, i,
                                 spans::full_word(kClasses[class_index], i)) == 0);
  }
}

/* One of which no other test holds a block; those that are in use stay leased. */
SpanRef lease_unused(unsigned class_index) {
  SpanRef span = spans::lease(class_index);
  while (spans::count_free(span, class_index) != kClasses[class_index].blocks) {
    span = spans::lease(class_index);
    REQUIRE(span);
  }
  return span;
}

}  // namespace

TEST_CASE("spans: a new span has all its blocks, once", "[heap]") {
  for (const unsigned class_index : {kTiny, class_of(100), class_of(1000), kClass}) {
    const SpanRef span = lease_unused(class_index);
    CHECK(claim_all(span, class_index) == kClasses[class_index].blocks);
    CHECK(claim_all(span, class_index) == 0);
    return_all(span, class_index);
    spans::end_lease(span);
  }
}

TEST_CASE("spans: a block that is returned twice is told", "[heap]") {
  const SpanRef span = lease_unused(kClass);
  REQUIRE(spans::claim(span, kClass, 0, 1) == 1);
  CHECK(spans::return_blocks(span, kClass, 0, 1) == 0);
  CHECK(spans::return_blocks(span, kClass, 0, 1) == 1);
  spans::end_lease(span);
}

TEST_CASE("spans: only a span that is wholly free can be taken", "[heap]") {
  const SpanRef span = lease_unused(kClass);
  const uint64_t all = spans::full_word(kClasses[kClass], 0);
  REQUIRE(spans::claim(span, kClass, 0, 1) == 1);
  CHECK_FALSE(spans::take_whole(span, kClass));
  CHECK(spans::count_free(span, kClass) == kClasses[kClass].blocks - 1U);
  spans::return_blocks(span, kClass, 0, 1);
  REQUIRE(spans::take_whole(span, kClass));
  CHECK(spans::claim(span, kClass, 0, all) == 0);
  spans::forget(span, kClass);
  CHECK(class_at(span.base()) == kNoClass);
  span.state().leased.store(0);
  regions::return_slices(*span.region, span.slice, 1);
}

TEST_CASE("spans: who claims by a stale hint puts back what is of another class", "[heap]") {
  const SpanRef span = spans::lease(kTiny);
  const unsigned free = spans::count_free(span, kTiny);
  // As one who believes that the span is still of kClass.
  CHECK(spans::claim(span, kClass, 0, 3) == 0);
  CHECK(spans::count_free(span, kTiny) == free);
  spans::end_lease(span);
}

TEST_CASE("spans: a span that is empty serves another class", "[heap]") {
  const SpanRef span = spans::lease(kClass);
  const int64_t before = spans::count(kClass);
  spans::end_lease(span);
  // All empty spans are taken before a new slice is: this one comes up sooner or later.
  std::vector<SpanRef> leases;
  bool served = false;
  const unsigned other = class_of(21'000);
  for (int i = 0; i < 100'000 && !served; ++i) {
    const SpanRef next = spans::lease(other);
    REQUIRE(next);
    served = next.region == span.region && next.slice == span.slice;
    leases.push_back(next);
  }
  CHECK(served);
  CHECK(spans::count(kClass) < before + 1);
  for (const SpanRef& lease : leases) spans::end_lease(lease);
}

TEST_CASE("spans: threads never own the same block", "[heap][threads]") {
  constexpr int kThreads = 4;
  constexpr int kTurns = 20'000;
  const SpanRef span = spans::lease(kTiny);
  spans::touch(span, kTiny, 0, 1);
  std::atomic<int> owners[64] = {};
  std::atomic<int> clashes{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTurns; ++i) {
        const uint64_t wanted = uint64_t{0xff} << ((i + t * 13) % 57);
        const uint64_t got = spans::claim(span, kTiny, 0, wanted);
        for (uint64_t rest = got; rest != 0; rest &= rest - 1) {
          if (owners[std::countr_zero(rest)].fetch_add(1) != 0) ++clashes;
        }
        for (uint64_t rest = got; rest != 0; rest &= rest - 1)
          owners[std::countr_zero(rest)].fetch_sub(1);
        if (got != 0 && spans::return_blocks(span, kTiny, 0, got) != 0) ++clashes;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(clashes == 0);
  spans::end_lease(span);
}

TEST_CASE("hints: what is set is found, lowest first, until it is cleared", "[heap]") {
  // A kind that the heap uses for nothing that could be there now.
  const unsigned kind = kFreeRuns + 3;
  const uint32_t ids = 64 * 64 * 2 + 3;
  for (const uint32_t id : {ids, 5U, 70U}) REQUIRE(hints::make_room(id + 1000));
  for (const uint32_t id : {ids, 5U, 70U}) hints::set(kind, id + 1000);
  CHECK(hints::find(kind, 1000) == 1005);
  CHECK(hints::find(kind, 1006) == 1070);
  CHECK(hints::find(kind, 1071) == ids + 1000);
  hints::clear(kind, 1070);
  CHECK(hints::find(kind, 1006) == ids + 1000);
  hints::clear(kind, 1005);
  hints::clear(kind, ids + 1000);
  CHECK(hints::find(kind, 1000) == kNoRegion);
}
