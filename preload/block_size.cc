/* See block_size.h. */
#include "block_size.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "backing.h"
#include "system/os.h"

namespace memlimit::block_size {
namespace {

/* The first leaves need no system call and cannot fail; two cover what mimalloc 2.0.9 uses of the
 * address space (its hints from 2 TiB up, and where the kernel puts what has no hint). */
constexpr size_t kSpareLeaves = 2;

struct Leaf {
  Slot slots[kLeafSlots];
};

}  // namespace

namespace {

/* Shared by all regions without a leaf of their own; never written, so its pages are the zero page. */
Leaf no_leaf;

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

}  // namespace

Slot* directory[kRegions];

extern "C" {

using Nothing = void (*)();

void memlimit_nothing() {}

/* Every entry points to the leaf of zeros, less the slots of the regions before it. The first malloc comes before
 * any constructor, so this runs when the loader relocates the library: as the resolver of an indirect function.
 * Nothing outside of this file may be touched in it. Pointers that the loader had to relocate one by one would
 * cost each process 2048 relocations, 40,000 instructions and 48 KiB of the file. */
__attribute__((used)) Nothing memlimit_fill_directory() {
  for (size_t region = 0; region < kRegions; ++region) directory[region] = biased(&no_leaf, region);
  return memlimit_nothing;
}

void memlimit_directory_is_filled()
    __attribute__((ifunc("memlimit_fill_directory"), visibility("hidden")));

}  // extern "C"

namespace {

/* The slot to write to: makes the region's leaf when it has none. nullptr when that is impossible. */
Slot* writable_slot(const void* block) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(block);
  const size_t region = address >> kRegionShift;
  std::atomic_ref<Slot*> entry(directory[region]);
  Slot* const none = biased(&no_leaf, region);
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

/* How many new pages of small blocks are still to be seen before looked_at_offset is lowered. */
constexpr int32_t kPagesOfProof = 16;
constexpr int32_t kDisproved = -1;
constinit std::atomic<int32_t> pages_to_see{kPagesOfProof};

/* A page of small blocks that was not seen before: `block` is the first of it that came here. */
void note_new_page(const void* block) noexcept {
  int32_t left = pages_to_see.load();
  if (left == kDisproved) return;
  const size_t first_offset = backing::first_block_offset();
  if (reinterpret_cast<uintptr_t>(block) % (size_t{1} << kSliceShift) > first_offset) {
    look_at_every_block();
  } else if (left > 0 && pages_to_see.compare_exchange_strong(left, left - 1) && left == 1) {
    looked_at_offset.store(static_cast<uint16_t>(std::min<size_t>(first_offset, UINT16_MAX)));
    // Another thread may have found the opposite before this store.
    if (pages_to_see.load() == kDisproved) looked_at_offset.store(UINT16_MAX);
  }
}

/* mimalloc's bins: multiples of 16 up to 64 bytes, then four sizes for each power of two. */
constexpr size_t expected_block_bytes(size_t bytes) noexcept {
  if (bytes <= 64) return std::max<size_t>((bytes + 15) / 16 * 16, 16);
  const size_t step = size_t{1} << (std::bit_width(bytes - 1) - 3);
  return (bytes + step - 1) & ~(step - 1);
}

}  // namespace

// Constants, since the first malloc comes before any constructor.
constinit SmallTable small_table = [] {
  SmallTable sizes{};
  for (size_t i = 0; i < sizes.size(); ++i) {
    sizes[i] = static_cast<uint16_t>(expected_block_bytes(i));
  }
  return sizes;
}();
constinit Table table = [] {
  Table sizes{};
  for (size_t i = 0; i < sizes.size(); ++i) {
    sizes[i] = static_cast<uint32_t>(expected_block_bytes((i + 1) * kTableStep));
  }
  return sizes;
}();

constinit std::atomic<uint16_t> looked_at_offset{UINT16_MAX};

void note_loaded() noexcept { memlimit_directory_is_filled(); }

void look_at_every_block() noexcept {
  pages_to_see.store(kDisproved);
  looked_at_offset.store(UINT16_MAX);
}

void correct(size_t table_bytes, size_t actual_bytes) noexcept {
  const auto replace = [&](auto& sizes) {
    for (auto& size : sizes) {
      std::atomic_ref entry(size);
      using Size = std::remove_reference_t<decltype(size)>;
      if (entry.load(std::memory_order_relaxed) == table_bytes) {
        entry.store(static_cast<Size>(actual_bytes), std::memory_order_relaxed);
      }
    }
  };
  if (actual_bytes <= kSmallBytes) replace(small_table);
  if (actual_bytes <= kTableMaxBytes) replace(table);
}

size_t remember(const void* block) noexcept {
  const size_t usable_bytes = backing::usable_bytes(block);
  Slot* const slot = writable_slot(block);
  if (slot == nullptr) return 0;
  const uint32_t seen = slot->load(std::memory_order_relaxed);
  if ((seen & kAskAllocator) == 0 && seen != usable_bytes) {
    const bool fits = usable_bytes < account::kMostBytes;
    slot->store(fits ? static_cast<uint32_t>(usable_bytes) : kAskAllocator,
                std::memory_order_relaxed);
    if (usable_bytes <= kSmallBytes) note_new_page(block);
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
