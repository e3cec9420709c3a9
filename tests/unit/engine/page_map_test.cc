/* The page map: every page counted once, whatever calls overlap, against a plain array. */
#include "engine/page_map.h"

#include <atomic>
#include <cstdio>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

using memlimit::PageMap;
using Use = PageMap::Use;

namespace {

constexpr uintptr_t kPage = 4096;
constexpr uintptr_t kGiB = uintptr_t{1} << 30;

std::unique_ptr<PageMap> make_map() { return std::make_unique<PageMap>(); }

/* Bytes of address space that this process has mapped. */
int64_t mapped_bytes() {
  FILE* const file = std::fopen("/proc/self/statm", "re");
  REQUIRE(file != nullptr);
  long pages = 0;
  CHECK(std::fscanf(file, "%ld", &pages) == 1);
  std::fclose(file);
  return pages * int64_t{kPage};
}

}  // namespace

TEST_CASE("page_map: a range counts once however often it is set", "[page_map]") {
  const auto map = make_map();
  CHECK(map->set(kGiB, 10 * kPage, Use::kData) == 10 * int64_t{kPage});
  CHECK(map->set(kGiB, 10 * kPage, Use::kData) == 0);
  CHECK(map->set(kGiB + 5 * kPage, 10 * kPage, Use::kData) == 5 * int64_t{kPage});
  CHECK(map->data_bytes() == 15 * int64_t{kPage});
  CHECK(map->set(kGiB, 15 * kPage, Use::kNone) == -15 * int64_t{kPage});
  CHECK(map->data_bytes() == 0);
}

TEST_CASE("page_map: lengths are rounded up to whole pages", "[page_map]") {
  const auto map = make_map();
  CHECK(map->set(kGiB, 1, Use::kData) == int64_t{kPage});
  CHECK(map->set(kGiB, kPage + 1, Use::kData) == int64_t{kPage});
  CHECK(map->set(kGiB, 0, Use::kData) == 0);
}

TEST_CASE("page_map: ranges are rounded out to the kernel's pages", "[page_map]") {
  constexpr size_t kLargePage = 65536;
  const auto map = make_map();
  map->set_page_bytes(kLargePage);
  CHECK(map->set(kGiB, kPage, Use::kData) == int64_t{kLargePage});
  CHECK(map->at(kGiB + kLargePage - 1) == Use::kData);
  CHECK(map->set(kGiB + 3 * kLargePage, kLargePage + 1, Use::kData) == 2 * int64_t{kLargePage});
  CHECK(map->protect(kGiB + 3 * kLargePage, kPage, false, false) == -int64_t{kLargePage});
  CHECK(map->set(kGiB, kPage, Use::kNone) == -int64_t{kLargePage});
  CHECK(map->data_bytes() == int64_t{kLargePage});
}

TEST_CASE("page_map: the highest addresses of a program count", "[page_map]") {
  // arm64 gives them out from 2^48 downwards, x86-64 from 2^47.
  const auto map = make_map();
  for (const unsigned bits : {47, 48}) {
    const uintptr_t high = (uintptr_t{1} << bits) - kGiB;
    CHECK(map->set(high, 10 * kPage, Use::kData) == 10 * int64_t{kPage});
    CHECK(map->at(high + 9 * kPage) == Use::kData);
    CHECK(map->set(high + 512 * kPage, kGiB - 512 * kPage, Use::kData) ==
          int64_t{kGiB} - 512 * int64_t{kPage});
  }
}

TEST_CASE("page_map: a reservation counts where it becomes writable", "[page_map]") {
  const auto map = make_map();
  CHECK(map->set(kGiB, 100 * kPage, Use::kReserved) == 0);
  CHECK(map->protect(kGiB + 10 * kPage, 4 * kPage, true, true) == 4 * int64_t{kPage});
  // Read-only afterwards (a compiler's finished code): still there.
  CHECK(map->protect(kGiB + 10 * kPage, 4 * kPage, false, true) == 0);
  CHECK(map->at(kGiB + 12 * kPage) == Use::kData);
  CHECK(map->protect(kGiB + 11 * kPage, 80 * kPage, false, false) == -3 * int64_t{kPage});
  CHECK(map->at(kGiB + 12 * kPage) == Use::kReserved);
  CHECK(map->data_bytes() == int64_t{kPage});
}

TEST_CASE("page_map: access to what is not the program's memory counts nothing", "[page_map]") {
  const auto map = make_map();
  CHECK(map->protect(kGiB, 4 * kPage, true, true) == 0);
  CHECK(map->at(kGiB) == Use::kNone);
}

TEST_CASE("page_map: whole gibibytes and their parts", "[page_map]") {
  const auto map = make_map();
  const auto terabyte = int64_t{1} << 40;
  CHECK(map->set(kGiB / 2, static_cast<size_t>(terabyte), Use::kData) == terabyte);
  CHECK(map->set(7 * kGiB + 3 * kPage, kPage, Use::kNone) == -int64_t{kPage});
  CHECK(map->at(7 * kGiB + 3 * kPage) == Use::kNone);
  CHECK(map->at(7 * kGiB + 4 * kPage) == Use::kData);
  CHECK(map->protect(20 * kGiB, kGiB, false, false) == -int64_t{kGiB});
  CHECK(map->protect(20 * kGiB + 5 * kPage, 2 * kPage, true, true) == 2 * int64_t{kPage});
  CHECK(map->data_bytes() == terabyte - int64_t{kGiB} + int64_t{kPage});
  map->set(0, uintptr_t{1} << 48, Use::kNone);
  CHECK(map->data_bytes() == 0);
}

TEST_CASE("page_map: addresses beyond user space are left out", "[page_map]") {
  const auto map = make_map();
  CHECK(map->set(uintptr_t{1} << 48, 4 * kPage, Use::kData) == 0);
  CHECK(map->set(UINTPTR_MAX - 2 * kPage, 8 * kPage, Use::kData) == 0);
  CHECK(map->set((uintptr_t{1} << 48) - kPage, 4 * kPage, Use::kData) == int64_t{kPage});
  CHECK(map->at(uintptr_t{1} << 48) == Use::kNone);
}

TEST_CASE("page_map: agrees with an array of pages over random calls", "[page_map]") {
  const auto map = make_map();
  // Across the border of two regions, one of which is at times set whole.
  constexpr size_t kPages = 3 * (kGiB / kPage);
  constexpr uintptr_t kBase = 5 * kGiB;
  std::vector<Use> pages(kPages, Use::kNone);
  std::mt19937_64 random(20260);
  int64_t expected = 0;
  for (int i = 0; i < 4000; ++i) {
    size_t first = random() % kPages;
    size_t length = 1 + random() % 300;
    if (random() % 200 == 0) {
      first = first / (kGiB / kPage) * (kGiB / kPage);
      length = kGiB / kPage;
    }
    length = std::min(length, kPages - first);
    const bool set = random() % 2 == 0;
    const auto use = static_cast<Use>(random() % 3);
    const bool writable = random() % 2 == 0;
    const bool accessible = writable || random() % 2 == 0;
    int64_t change = 0;
    for (size_t page = first; page < first + length; ++page) {
      const Use before = pages[page];
      Use after = before;
      if (set) {
        after = use;
      } else if (before != Use::kNone) {
        after = writable ? Use::kData : (accessible ? before : Use::kReserved);
      }
      change += (after == Use::kData) - (before == Use::kData);
      pages[page] = after;
    }
    const uintptr_t address = kBase + first * kPage;
    const int64_t got = set ? map->set(address, length * kPage, use)
                            : map->protect(address, length * kPage, writable, accessible);
    REQUIRE(got == change * int64_t{kPage});
    expected += got;
    REQUIRE(map->data_bytes() == expected);
    REQUIRE(map->at(address) == pages[first]);
    REQUIRE(map->at(address + (length - 1) * kPage) == pages[first + length - 1]);
  }
}

TEST_CASE("page_map: mappings that come and go all over the address space leave nothing behind",
          "[page_map]") {
  const auto map = make_map();
  constexpr int kTimes = 20'000;
  std::mt19937_64 random(1);
  const int64_t before = mapped_bytes();
  for (int i = 0; i < kTimes; ++i) {
    const uintptr_t address = random() % (uintptr_t{1} << 46) / kPage * kPage;
    map->set(address, 64 * kPage, Use::kReserved);
    map->protect(address, 63 * kPage, true, true);
    if (i % 2 == 0) map->protect(address, 64 * kPage, false, false);
    CHECK(map->at(address) == (i % 2 == 0 ? Use::kReserved : Use::kData));
    map->set(address, 64 * kPage, Use::kNone);
  }
  CHECK(map->data_bytes() == 0);
  // Each would have left 64 KiB of address space, and 4 KiB of memory.
  CHECK(mapped_bytes() - before < kTimes * (int64_t{64} << 10) / 20);
}

TEST_CASE("page_map: a leaf that empties under threads is right when it is needed again",
          "[page_map][threads]") {
  const auto map = make_map();
  constexpr int kThreads = 4;
  const int64_t before = mapped_bytes();
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&map, &wrong, t] {
      // Each its own pages of one GiB, so that it alone says what they are.
      const uintptr_t address = kGiB + static_cast<uintptr_t>(t) * 1000 * kPage;
      for (int i = 0; i < 5000; ++i) {
        const Use use = i % 3 == 0 ? Use::kReserved : Use::kData;
        map->set(address, 100 * kPage, use);
        if (map->at(address) != use || !map->uniform(address, 100 * kPage)) ++wrong;
        map->set(address, 100 * kPage, Use::kNone);
        if (map->at(address) != Use::kNone) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(map->data_bytes() == 0);
  CHECK(mapped_bytes() - before < int64_t{256} << 20);
}

TEST_CASE("page_map: overlapping threads never count a page twice", "[page_map][threads]") {
  const auto map = make_map();
  constexpr int kThreads = 4;
  constexpr size_t kSpan = 2000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&map, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 4000; ++i) {
        const uintptr_t address = kGiB - kSpan / 2 * kPage + random() % kSpan * kPage;
        const size_t length = (1 + random() % 200) * kPage;
        map->set(address, length, static_cast<Use>(random() % 3));
        map->protect(address, length, random() % 2 == 0, true);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  int64_t pages = 0;
  for (uintptr_t page = 0; page < 2 * kGiB; page += kPage) pages += map->at(page) == Use::kData;
  CHECK(map->data_bytes() == pages * int64_t{kPage});
  map->set(0, 2 * kGiB, Use::kNone);
  CHECK(map->data_bytes() == 0);
}
