/* A stress of ownership: threads allocate blocks of 8 bytes to 32 KiB (small ones far more often),
 * keep some, and swap others with whatever another thread has left in a shared table; a block is
 * freed by whoever has it then. Iterations are per thread. The checksum counts each block once,
 * whoever frees it.
 *
 * Usage: exchange [iterations] [threads]
 */
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "common.h"

namespace {

constexpr size_t kShared = 1000;
constexpr size_t kKept = 2000;

struct Block {
  uint64_t value;
};

std::array<std::atomic<Block*>, kShared> shared{};

Block* make(bench::Rng& rng) {
  // Twelve octaves, each half as likely as the one before.
  const uint64_t bits = rng.next();
  const size_t octave = size_t{8} << __builtin_ctzll((bits >> 20 & 2047) | 2048);
  auto* block = reinterpret_cast<Block*>(bench::must_malloc(octave + (bits >> 40) % octave));
  block->value = bits;
  return block;
}

uint64_t release(Block* block) {
  if (block == nullptr) return 0;
  const uint64_t value = block->value;
  std::free(block);
  return value;
}

uint64_t run(uint64_t iterations, uint64_t seed) {
  std::vector<Block*> kept(kKept);
  bench::Rng rng(seed);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    Block* block = make(rng);
    if (i % 4 == 0) {
      block = shared[rng.between(0, kShared - 1)].exchange(block, std::memory_order_acq_rel);
    }
    std::swap(block, kept[rng.between(0, kKept - 1)]);
    sum += release(block);
  }
  for (Block* block : kept) sum += release(block);
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 30'000'000);
  const uint64_t threads = bench::arg_number(argc, argv, 2, 2);
  std::atomic<uint64_t> sum{0};
  std::vector<std::thread> workers;
  for (uint64_t t = 0; t < threads; ++t) {
    workers.emplace_back([&sum, iterations, t] { sum += run(iterations, t + 1); });
  }
  for (std::thread& worker : workers) worker.join();
  for (auto& slot : shared) sum += release(slot.load());
  bench::report(iterations * threads, sum);
}
