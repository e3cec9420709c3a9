/* See misuse.h. */
#include "heap/misuse.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "system/os.h"
#include "system/text.h"

namespace memlimit::heap {
namespace {

/* Of each stack. What lies deeper is not worth the time that every program's end would take. */
constexpr uint64_t kNewest = 64;

/* A bit for each hash: the addresses are compared where two fall on the same. */
const void* find_twice(const void* const* blocks, uint64_t count) noexcept {
  uint64_t seen[16] = {};
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t hash = (reinterpret_cast<uintptr_t>(blocks[i]) * 0x9e3779b97f4a7c15) >> 54;
    uint64_t& word = seen[hash / 64];
    const uint64_t bit = uint64_t{1} << hash % 64;
    if ((word & bit) != 0 && std::find(blocks, blocks + i, blocks[i]) != blocks + i)
      return blocks[i];
    word |= bit;
  }
  return nullptr;
}

}  // namespace

void report_stacked_twice(ThreadCache& cache) noexcept {
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    const uint64_t top = cache.tops[i].load(std::memory_order_relaxed);
    // One block, or none, as most stacks of a small program.
    if (top - kStackPlaces.near[i] <= sizeof(void*)) continue;
    const uint64_t count = std::min<uint64_t>(cache.stacked(i), kNewest);
    const void* const twice = find_twice(&cache.slot(top - (count - 1) * sizeof(void*)), count);
    if (twice != nullptr) report_misuse(Misuse::kDoubleFree, twice, kClasses[i].block_bytes);
  }
}

void report_misuse(Misuse what, const void* address, size_t block_bytes) noexcept {
  char line[128];
  TextWriter text(line, sizeof line);
  text.put("memlimit: free(): ")
      .put(what == Misuse::kDoubleFree ? "double free of 0x" : "invalid pointer 0x")
      .put_uint(reinterpret_cast<uintptr_t>(address), 16);
  if (block_bytes != 0) text.put(" (a block of ").put_uint(block_bytes).put(" bytes)");
  text.put("\n");
  os::write_all(2, line, text.length());
  abort();
}

}  // namespace memlimit::heap
