/* One loop for each way into the allocator, for counting instructions: run under callgrind with n
 * and with 2n iterations, the difference divided by n is the cost of one turn, start-up and end
 * cancelled. Every loop has the shape of `pair`; "loop" is the same without any allocation, so what
 * the loop itself costs is known too.
 *
 * Usage: entry_points name iterations
 */
#include <malloc.h>

#include <new>
#include <string_view>

#include "common.h"

namespace {

struct Slot {
  void* block = nullptr;
  size_t size = 0;
};

/** Each turn gives a slot back and fills it anew, by `replace(slot, new size)`. */
template <typename Replace>
uint64_t run(uint64_t iterations, Replace replace) {
  Slot slots[64];
  bench::Rng rng(1);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    const uint64_t bits = rng.next();
    Slot& slot = slots[bits >> 58];
    const size_t size = 16 + (bits >> 40 & 511);
    replace(slot, size);
    bench::keep(slot.block);
    sum += size;
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  const uint64_t n = bench::arg_number(argc, argv, 2, 100'000);
  uint64_t sum = 0;
  if (name == "loop") {
    sum = run(n, [](Slot&, size_t) {});
  } else if (name == "malloc") {
    sum = run(n, [](Slot& slot, size_t size) {
      std::free(slot.block);
      slot.block = std::malloc(size);
    });
  } else if (name == "calloc") {
    sum = run(n, [](Slot& slot, size_t size) {
      std::free(slot.block);
      slot.block = std::calloc(1, size);
    });
  } else if (name == "realloc") {
    sum = run(n, [](Slot& slot, size_t size) { slot.block = std::realloc(slot.block, size); });
  } else if (name == "aligned_alloc") {
    sum = run(n, [](Slot& slot, size_t size) {
      std::free(slot.block);
      slot.block = std::aligned_alloc(64, (size + 63) & ~size_t{63});
    });
  } else if (name == "posix_memalign") {
    sum = run(n, [](Slot& slot, size_t size) {
      std::free(slot.block);
      if (posix_memalign(&slot.block, 64, size) != 0) std::abort();
    });
  } else if (name == "new") {
    sum = run(n, [](Slot& slot, size_t size) {
      ::operator delete(slot.block);
      slot.block = ::operator new(size);
    });
  } else if (name == "new_sized_delete") {
    sum = run(n, [](Slot& slot, size_t size) {
      ::operator delete(slot.block, slot.size);
      slot.size = size;
      slot.block = ::operator new(size);
    });
  } else if (name == "new_aligned") {
    sum = run(n, [](Slot& slot, size_t size) {
      ::operator delete (slot.block, slot.size, std::align_val_t{64});
      slot.size = size;
      slot.block = ::operator new (size, std::align_val_t{64});
    });
  } else {
    std::fprintf(stderr, "usage: %s name iterations\n", argv[0]);
    return 2;
  }
  bench::report(n, sum);
}
