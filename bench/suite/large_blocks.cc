/* Blocks of 64 KiB to 8 MiB, every octave as likely as the others, 16 alive at a time. Each block
 * has every page of its first 64 KiB and one page in sixteen beyond written: a program uses what it
 * asks for, but a full write would time the kernel's page clearing only.
 *
 * Usage: large_blocks [iterations]
 */
#include "common.h"

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 200'000);
  constexpr size_t kPageBytes = 4096;
  constexpr size_t kDenseBytes = 64 << 10;
  char* slots[16] = {};
  bench::Rng rng(1);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    const uint64_t bits = rng.next();
    char*& slot = slots[bits >> 60];
    const size_t octave = size_t{64 << 10} << (bits >> 32) % 7;
    const size_t size = octave + (bits >> 8) % (octave + 1);
    if (slot != nullptr) sum += static_cast<unsigned char>(*slot);
    std::free(slot);
    slot = bench::must_malloc(size);
    for (size_t at = 0; at < size; at += at < kDenseBytes ? kPageBytes : 16 * kPageBytes) {
      slot[at] = static_cast<char>(bits >> 40);
    }
  }
  for (char* slot : slots) std::free(slot);
  bench::report(iterations, sum);
}
