/* calloc of 16-527 bytes, and of up to 64 KiB once in 64, in 64 slots. Each block is checked for
 * zeros at both ends and then dirtied there, so that an allocator that forgets to clear a used
 * block is caught.
 *
 * Usage: calloc_zero [iterations]
 */
#include "common.h"

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 20'000'000);
  char* slots[64] = {};
  bench::Rng rng(1);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    const uint64_t bits = rng.next();
    char*& slot = slots[bits >> 58];
    if (slot != nullptr) sum += static_cast<unsigned char>(*slot);
    std::free(slot);
    const bool large = (bits & 63) == 0;
    const size_t size = 16 + (large ? bits >> 20 & 0xFFFF : bits >> 40 & 511);
    slot = static_cast<char*>(std::calloc(1, size));
    if (slot == nullptr || slot[0] != 0 || slot[size - 1] != 0) std::abort();
    slot[0] = slot[size - 1] = static_cast<char>(bits >> 32 | 1);
  }
  for (char* slot : slots) std::free(slot);
  bench::report(iterations, sum);
}
