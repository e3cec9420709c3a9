/* Aligned blocks: 32 to 4096 bytes of alignment (the smaller ones more often), by aligned_alloc,
 * posix_memalign and aligned operator new in turn, 64 alive.
 *
 * Sizes are odd multiples of the alignment, 3 or more: mimalloc 2.0.9 by itself misaligns blocks of
 * 256, 512 and 1024 bytes when 256 or more is asked for, and every allocator has to finish the run.
 *
 * Usage: aligned [iterations]
 */
#include <new>

#include "common.h"

namespace {

/** One of the three ways to ask for an aligned block; ends the program when the answer is wrong. */
char* allocate(unsigned way, size_t alignment, size_t size) {
  void* block = nullptr;
  if (way == 0) {
    block = std::aligned_alloc(alignment, size);
  } else if (way == 1) {
    if (posix_memalign(&block, alignment, size) != 0) block = nullptr;
  } else {
    block = ::operator new (size, std::align_val_t{alignment});
  }
  if (block == nullptr || reinterpret_cast<uintptr_t>(block) % alignment != 0) std::abort();
  return static_cast<char*>(block);
}

struct Slot {
  char* block = nullptr;
  size_t alignment = 0;  // not 0: made by operator new
};

void release(Slot& slot) {
  if (slot.alignment != 0) {
    ::operator delete (slot.block, std::align_val_t{slot.alignment});
  } else {
    std::free(slot.block);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 10'000'000);
  Slot slots[64];
  bench::Rng rng(1);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    const uint64_t bits = rng.next();
    Slot& slot = slots[bits >> 58];
    if (slot.block != nullptr) sum += static_cast<unsigned char>(*slot.block);
    release(slot);
    // Each doubling of the alignment is half as likely as the one before.
    const size_t alignment = size_t{32} << __builtin_ctzll((bits >> 20 & 127) | 128);
    const size_t size = (3 + 2 * ((bits >> 40 & 511) / alignment)) * alignment;
    const unsigned way = static_cast<unsigned>(i % 3);
    slot.block = allocate(way, alignment, size);
    slot.alignment = way == 2 ? alignment : 0;
    *slot.block = static_cast<char>(bits >> 32);
  }
  for (Slot& slot : slots) release(slot);
  bench::report(iterations, sum);
}
