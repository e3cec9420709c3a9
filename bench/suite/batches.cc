/* Batches: 4,096 blocks of one size range are allocated in a row and freed in the same order, the
 * reverse order, or a shuffled one, in turn; ranges are 8-64, 64-512 and 512-4096 bytes. Freed
 * lists become long, which `pair` never sees. An iteration is one batch.
 *
 * Usage: batches [iterations]
 */
#include <algorithm>
#include <array>
#include <numeric>

#include "common.h"

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 6'000);
  constexpr size_t kBlocks = 4096;
  static std::array<char*, kBlocks> blocks;
  static std::array<uint32_t, kBlocks> shuffled;
  std::iota(shuffled.begin(), shuffled.end(), 0U);
  bench::Rng rng(1);
  for (size_t i = kBlocks - 1; i > 0; --i) std::swap(shuffled[i], shuffled[rng.between(0, i)]);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    const size_t low = size_t{8} << 3 * (i % 3);
    for (char*& block : blocks) {
      const size_t size = rng.between(low, 8 * low);
      block = bench::must_malloc(size);
      *block = static_cast<char>(size);
    }
    for (size_t n = 0; n < kBlocks; ++n) {
      const uint64_t way = i / 3 % 3;
      char* block = blocks[way == 0 ? n : way == 1 ? kBlocks - 1 - n : shuffled[n]];
      sum += static_cast<unsigned char>(*block);
      std::free(block);
    }
  }
  bench::report(iterations, sum);
}
