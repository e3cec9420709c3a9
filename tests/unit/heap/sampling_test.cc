/* Which blocks are sampled: as many as the interval says, whatever their size; and nothing that counts is changed by it. */
#include "heap/sampling.h"

#include <cmath>
#include <cstring>
#include <random>
#include <unordered_map>
#include <vector>

#include <catch2/catch.hpp>

#include "heap/figures.h"
#include "heap/heap.h"
#include "unit/heap/support.h"

using namespace memlimit;
using namespace memlimit::heap;
using test::live_bytes;

namespace {

/* What the heap told, on the one thread that a test allocates on. */
struct Told {
  std::unordered_map<void*, uint64_t> live;
  uint64_t picked = 0, forgotten = 0;
  double bytes = 0; /* that all picked blocks stand for */
};
Told* told = nullptr;

HeapOps sampling_ops() noexcept {
  HeapOps ops = test::quiet_ops();
  ops.sampled = [](void* block, uint64_t block_bytes, uint64_t interval_bytes) noexcept {
    const auto bytes = static_cast<double>(block_bytes);
    CHECK(told->live.emplace(block, block_bytes).second);
    ++told->picked;
    told->bytes += bytes / -std::expm1(-bytes / static_cast<double>(interval_bytes));
    return true;
  };
  ops.sample_freed = [](void* block) noexcept {
    const bool was = told->live.erase(block) == 1;
    told->forgotten += was ? 1 : 0;
    return was;
  };
  return ops;
}

/* Samples for as long as it lives. The library's own containers allocate elsewhere: the tests' malloc is the C library's. */
class Sampling {
 public:
  explicit Sampling(uint64_t interval_bytes) : ops_(sampling_ops()), scope_(ops_) {
    told = &told_;
    set_sample_interval_bytes(interval_bytes);
    flush_own_cache();  // a thread follows at its next refill
  }
  ~Sampling() {
    set_sample_interval_bytes(0);
    flush_own_cache();
    release(allocate(1));
  }
  Told told_;

 private:
  HeapOps ops_;
  test::OpsScope scope_;
};

}  // namespace

TEST_CASE("sampling: distances are exponential", "[heap][sampling]") {
  std::mt19937_64 random(1);
  double sum = 0;
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t bits = random();
    const double expected = -std::log((static_cast<double>(bits >> 11) + 0.5) * 0x1p-53) * 1000.0;
    const double distance = sampling::exponential(bits, 1000);
    REQUIRE(distance == Approx(expected).epsilon(1e-8).margin(1e-6));
    sum += distance;
  }
  CHECK(sum / 100'000 == Approx(1000).epsilon(0.02));
  for (const uint64_t bits : {uint64_t{0}, ~uint64_t{0}, uint64_t{1} << 63}) {
    CHECK(sampling::exponential(bits, 1) >= 0);
    CHECK(sampling::exponential(bits, 1) < 40);
  }
}

TEST_CASE("sampling: what is picked stands for what was allocated", "[heap][sampling]") {
  constexpr uint64_t kInterval = 16 << 10;
  for (const size_t bytes :
       {size_t{16}, size_t{100}, size_t{1000}, size_t{20'000}, size_t{50'000}, size_t{300'000}}) {
    INFO("blocks of " << bytes);
    const size_t count = std::max<size_t>(48'000'000 / bytes, 2000);
    Sampling sampling(kInterval);
    // The first block of a class fills its stack: from there on each is counted.
    for (size_t i = 0; i < count; ++i) release(allocate(bytes));
    const auto truth = static_cast<double>(count * good_size(bytes));
    // A standard deviation is the root of the number of picked blocks, or less: six of them.
    const double sigma = 1 / std::sqrt(static_cast<double>(sampling.told_.picked));
    CHECK(sampling.told_.picked > 500);
    CHECK(std::abs(sampling.told_.bytes / truth - 1) < 6 * sigma);
    CHECK(sampling.told_.live.empty());
  }
}

TEST_CASE("sampling: a block that is picked is a block as any other", "[heap][sampling]") {
  const int64_t before = live_bytes();
  const uint64_t allocated_before = figures::own().allocated_bytes;
  uint64_t allocated = 0;
  {
    Sampling sampling(1 << 10);
    std::mt19937_64 random(2);
    std::vector<std::pair<unsigned char*, size_t>> blocks;
    for (int i = 0; i < 20'000; ++i) {
      const size_t bytes = size_t{1} << (random() % 17) | random() % 5000;
      const size_t alignment = size_t{16} << (random() % 8);
      auto* const block =
          static_cast<unsigned char*>(i % 3 == 0   ? allocate_aligned(alignment, bytes)
                                      : i % 3 == 1 ? allocate(bytes)
                                                   : allocate_zeroed(bytes));
      REQUIRE(block != nullptr);
      if (i % 3 == 0) REQUIRE(reinterpret_cast<uintptr_t>(block) % alignment == 0);
      REQUIRE(usable_bytes(block) >= bytes);
      if (i % 3 == 2) {
        REQUIRE(std::all_of(block, block + bytes, [](unsigned char byte) { return byte == 0; }));
      }
      allocated += usable_bytes(block);
      memset(block, i & 0xff, bytes);
      blocks.emplace_back(block, bytes);
      if (blocks.size() < 200) continue;
      const size_t victim = random() % blocks.size();
      const auto [address, size] = blocks[victim];
      REQUIRE(address[0] == address[size - 1]);
      release(address);
      blocks[victim] = blocks.back();
      blocks.pop_back();
    }
    int64_t left = 0;
    uint64_t picked = 0;
    for (const auto& [block, bytes] : blocks) {
      left += static_cast<int64_t>(usable_bytes(block));
      picked += sampling.told_.live.count(block);
    }
    CHECK(picked == sampling.told_.live.size());
    CHECK(live_bytes() - before == left);
    CHECK(figures::own().allocated_bytes - allocated_before == allocated);
    ClassFigures classes[kBins];
    figures::by_class(classes);
    int64_t by_class = 0;
    for (const ClassFigures& of : classes) by_class += of.live_bytes;
    const HeapFigures totals = figures::totals();
    CHECK(by_class - static_cast<int64_t>(totals.lost_bytes) == totals.live_bytes());
    for (const auto& [block, bytes] : blocks) release(block);
    CHECK(sampling.told_.live.empty());
    CHECK(sampling.told_.forgotten == sampling.told_.picked);
    CHECK(sampling.told_.picked > 1000);
  }
  CHECK(live_bytes() == before);
}

TEST_CASE("sampling: large blocks are followed where they grow", "[heap][sampling]") {
  Sampling sampling(1 << 10);
  void* block = allocate(100'000);
  CHECK(sampling.told_.live.size() == 1);
  for (const size_t bytes : {size_t{150'000}, size_t{120'000}, size_t{3'000'000}, size_t{9'000'000},
                             size_t{20'000'000}, size_t{70'000}, SIZE_MAX - 100}) {
    void* resized = resize(block, bytes);
    if (resized == nullptr) {
      // It stays as it was, and known as that.
      REQUIRE(sampling.told_.live.count(block) == 1);
      CHECK(sampling.told_.live.at(block) == usable_bytes(block));
      continue;
    }
    block = resized;
    REQUIRE(sampling.told_.live.count(block) == 1);
    CHECK(sampling.told_.live.size() == 1);
    CHECK(sampling.told_.live.at(block) == usable_bytes(block));
  }
  release(block);
  CHECK(sampling.told_.live.empty());
}

TEST_CASE("sampling: switched off, what was picked is followed to its end", "[heap][sampling]") {
  Sampling sampling(1 << 10);
  std::vector<void*> blocks;
  for (int i = 0; i < 1000; ++i) blocks.push_back(allocate(4000));
  const uint64_t picked = sampling.told_.picked;
  CHECK(picked > 900);
  const uint64_t allocated = figures::own().allocated_bytes;
  set_sample_interval_bytes(0);
  flush_own_cache();
  for (int i = 0; i < 1000; ++i) blocks.push_back(allocate(4000));
  CHECK(sampling.told_.picked <= picked + 1);
  CHECK(figures::own().allocated_bytes - allocated == 1000 * good_size(4000));
  for (void* const block : blocks) release(block);
  CHECK(sampling.told_.live.empty());
}
