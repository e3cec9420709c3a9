/* See block_size.h. */
#include "block_size.h"

#include <algorithm>

#include "backing.h"
#include "os.h"

namespace memlimit::block_size {
namespace {

/* The first leaves need no system call and cannot fail; two cover what mimalloc 2.0.9 uses of the
 * address space (its hints from 2 TiB up, and where the kernel puts what has no hint). */
constexpr size_t kSpareLeaves = 2;

struct Leaf {
  Slot slots[kLeafSlots];
};

}  // namespace

extern "C" {
/* Shared by all regions without a leaf of their own; never written, so its pages are the zero page. */
__attribute__((visibility("hidden"), used)) Leaf memlimit_no_leaf;
}

namespace {

Leaf spare_leaves[kSpareLeaves];
constinit std::atomic<size_t> spares_taken{0};

Slot* biased(Leaf* leaf, size_t region) noexcept {
  return reinterpret_cast<Slot*>(reinterpret_cast<uintptr_t>(leaf) - region * sizeof(Leaf));
}

Leaf* make_leaf() noexcept {
  if (spares_taken.load(std::memory_order_relaxed) < kSpareLeaves) {
    const size_t spare = spares_taken.fetch_add(1, std::memory_order_relaxed);
    if (spare < kSpareLeaves) return &spare_leaves[spare];
  }
  return static_cast<Leaf*>(os::map_pages(sizeof(Leaf)));
}

/* The slot to write to: makes the region's leaf when it has none. nullptr when that is impossible. */
Slot* writable_slot(const void* block) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(block);
  const size_t region = address >> kRegionShift;
  std::atomic_ref<Slot*> entry(memlimit_slot_directory[region]);
  Slot* const none = biased(&memlimit_no_leaf, region);
  Slot* leaf = entry.load(std::memory_order_acquire);
  if (leaf == none) {
    // Two threads may make one each; the loser's is wasted, once in the life of a region.
    Leaf* const fresh = make_leaf();
    if (fresh == nullptr) return nullptr;
    if (entry.compare_exchange_strong(leaf, biased(fresh, region), std::memory_order_acq_rel)) {
      leaf = biased(fresh, region);
    }
  }
  return &leaf[address >> kSliceShift];
}

}  // namespace

#define MEMLIMIT_E1(i) ((i)*kTableStep + kTableStep - 1)
#define MEMLIMIT_E4(i) \
  MEMLIMIT_E1(i), MEMLIMIT_E1((i) + 1), MEMLIMIT_E1((i) + 2), MEMLIMIT_E1((i) + 3)
#define MEMLIMIT_E16(i) \
  MEMLIMIT_E4(i), MEMLIMIT_E4((i) + 4), MEMLIMIT_E4((i) + 8), MEMLIMIT_E4((i) + 12)
#define MEMLIMIT_E64(i) \
  MEMLIMIT_E16(i), MEMLIMIT_E16((i) + 16), MEMLIMIT_E16((i) + 32), MEMLIMIT_E16((i) + 48)
#define MEMLIMIT_E256(i) \
  MEMLIMIT_E64(i), MEMLIMIT_E64((i) + 64), MEMLIMIT_E64((i) + 128), MEMLIMIT_E64((i) + 192)
/* A constant, since the first malloc comes before any constructor; atomics cannot be filled in a loop. */
constinit std::atomic<uint32_t> table[kTableEntries] = {MEMLIMIT_E256(0), MEMLIMIT_E256(256),
                                                        MEMLIMIT_E256(512), MEMLIMIT_E256(768)};
static_assert(kTableEntries == 1024, "as listed above");

void look_up(size_t entry) noexcept {
  if (entry % kTableStep == 0) return;
  const size_t index = entry / kTableStep;
  auto block_bytes = static_cast<uint32_t>(backing::good_size(entry));
  // entry.h relies on it: small requests have small blocks. In an allocator for which that were not so, the
  // slots would differ from the table, and the largest small requests be slower.
  if (entry <= backing::kSmallBytes) {
    block_bytes = std::min(block_bytes, static_cast<uint32_t>(backing::kSmallBytes));
  }
  // Every request up to the block's size gets the same block.
  const size_t end = std::clamp<size_t>(block_bytes / kTableStep, index + 1, kTableEntries);
  for (size_t i = index; i < end; ++i) table[i].store(block_bytes, std::memory_order_relaxed);
}

size_t remember(const void* block) noexcept {
  const size_t usable_bytes = backing::usable_bytes(block);
  Slot* const slot = writable_slot(block);
  if (slot == nullptr) return 0;
  if ((slot->load(std::memory_order_relaxed) & kAskAllocator) == 0) {
    const bool fits = usable_bytes < account::kMostBytes;
    slot->store(fits ? static_cast<uint32_t>(usable_bytes) : kAskAllocator,
                std::memory_order_relaxed);
  }
  return usable_bytes;
}

size_t remember_aligned(const void* block) noexcept {
  Slot* const slot = writable_slot(block);
  if (slot == nullptr) return 0;
  slot->store(kAskAllocator, std::memory_order_relaxed);
  return backing::usable_bytes(block);
}

}  // namespace memlimit::block_size

#define MEMLIMIT_STRING_(x) #x
#define MEMLIMIT_STRING(x) MEMLIMIT_STRING_(x)

/* Every entry points into the leaf of zeros, less the slots of the regions before it. */
__asm__(R"(
        .pushsection .data.rel.local, "aw"
        .balign 64
        .hidden memlimit_slot_directory
        .globl  memlimit_slot_directory
        .type   memlimit_slot_directory, %object
memlimit_slot_directory:
        .set    memlimit_region, 0
        .rept   )" MEMLIMIT_STRING(MEMLIMIT_REGIONS) R"(
        .quad   memlimit_no_leaf - (memlimit_region << 22)
        .set    memlimit_region, memlimit_region + 1
        .endr
        .size   memlimit_slot_directory, . - memlimit_slot_directory
        .popsection
)");

namespace memlimit::block_size {
static_assert(sizeof(Leaf) == size_t{1} << 22, "as assembled above");
}
