/* C++ operator new with sized delete, as containers and `delete` of complete types call it: the
 * size comes with the pointer, so an allocator need not look it up.
 *
 * Usage: sized_delete [iterations]
 */
#include <new>

#include "common.h"

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 100'000'000);
  struct Slot {
    char* block = nullptr;
    size_t size = 0;
  };
  Slot slots[64];
  bench::Rng rng(1);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    const uint64_t bits = rng.next();
    Slot& slot = slots[bits >> 58];
    if (slot.block != nullptr) sum += static_cast<unsigned char>(*slot.block);
    ::operator delete(slot.block, slot.size);
    slot.size = 16 + (bits >> 40 & 511);
    slot.block = static_cast<char*>(::operator new(slot.size));
    *slot.block = static_cast<char>(bits >> 32);
  }
  for (Slot& slot : slots) ::operator delete(slot.block, slot.size);
  bench::report(iterations, sum);
}
