/* How many bytes a block has, in a handful of instructions.
 *
 * mi_usable_size() finds the segment and the page that mi_free() then finds again: 30 instructions a
 * call. Three facts about mimalloc replace it:
 *   - a request is rounded up to one of a few dozen sizes, so a table gives the size of a new block from
 *     the size asked for;
 *   - all blocks that begin in one 64 KiB-aligned slice of address space belong to one page of the
 *     allocator, and so have one size for as long as any of them lives. The size is kept in a slot for
 *     each slice, written when the first such block is handed out and read when a block is freed;
 *   - the first block that a new page of small blocks hands out is its first one, so only a block that
 *     begins a slice need be compared with its slot.
 * None is trusted. Whoever allocates compares the slot with the table, and where they differ (a new page,
 * or an allocator that does it otherwise) remember() asks mi_usable_size(). The third is used only with
 * the version of mimalloc it was read from, after it has held for the first pages of the process, and
 * given up for good when a page is seen that began otherwise; until then every block is compared.
 *
 * Slots lie in leaves of 4 MiB (mostly untouched) for each 64 GiB of address space; a directory finds the
 * leaf. Regions without a leaf share one that is all zeros and never written: nullptr, too, has 0 bytes.
 *
 * Threads: all. A slot is written with a value that is right for every live block of its slice, so the
 * order in which threads see it does not matter.
 */
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/account.h"
#include "system/attributes.h"

namespace memlimit::block_size {

inline constexpr unsigned kSliceShift = 16;
inline constexpr unsigned kRegionShift = 36;
inline constexpr size_t kLeafSlots = size_t{1} << (kRegionShift - kSliceShift);
/* How far user space reaches for a program that does not ask for more: 2^47 on x86-64, 2^48 on arm64. */
#if defined(__x86_64__)
inline constexpr size_t kRegions = 2048;
#else
inline constexpr size_t kRegions = 4096;
#endif

/* A slot with this bit does not tell the size: ask the allocator. Counting so many bytes exhausts any
 * thread's allowance, so the free takes the slow path without a test of its own. The bit stays: blocks
 * aligned beyond what the allocator guarantees may begin anywhere in such a slice. */
inline constexpr uint32_t kAskAllocator = account::kUnknownBytes;

/* Block sizes for requests of every size up to kSmallBytes: what mimalloc 2 and 3 make of them. Corrected
 * where the allocator turns out to do otherwise. */
inline constexpr size_t kSmallBytes = 1024;
using SmallTable = std::array<uint16_t, kSmallBytes + 1>;
MEMLIMIT_HIDDEN extern constinit SmallTable small_table;

MEMLIMIT_ALWAYS_INLINE size_t of_small_request(size_t bytes) noexcept {
  return std::atomic_ref(small_table[bytes]).load(std::memory_order_relaxed);
}

/* The same up to kTableMaxBytes, in steps of 16: entry i is for (16 * i, 16 * (i + 1)] bytes. */
inline constexpr size_t kTableMaxBytes = size_t{16} << 10;
inline constexpr size_t kTableStep = 16;
inline constexpr size_t kTableEntries = kTableMaxBytes / kTableStep;
using Table = std::array<uint32_t, kTableEntries>;
MEMLIMIT_HIDDEN extern constinit Table table;

/** The index into `table` for a request; out of range for 0 and for what is too large. */
MEMLIMIT_ALWAYS_INLINE size_t table_index(size_t bytes) noexcept {
  return (bytes - 1) / kTableStep;
}
MEMLIMIT_ALWAYS_INLINE size_t of_table_entry(size_t index) noexcept {
  return std::atomic_ref(table[index]).load(std::memory_order_relaxed);
}

using Slot = std::atomic<uint32_t>;

/* directory[region] + (address >> 16) is the slot: entries are biased so that the whole slice number
 * is the index. Filled while the loader relocates the library. */
MEMLIMIT_HIDDEN extern Slot* directory[kRegions];

MEMLIMIT_ALWAYS_INLINE Slot& slot_of(const void* block) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(block);
  // Relaxed: whoever has a block has got it after its slot was written, by whatever handed it over; and a leaf
  // that is too new for this thread holds no block of its.
  Slot* const leaf =
      std::atomic_ref(directory[address >> kRegionShift]).load(std::memory_order_relaxed);
  return leaf[address >> kSliceShift];
}

/* A small block whose offset in its slice is above this lies in a page that has been seen: its slot says
 * what the table says. 0xffff while that is not known. */
MEMLIMIT_HIDDEN extern constinit std::atomic<uint16_t> looked_at_offset;

/** Whether the slot of a new small block must be looked at: it may be the first of its page. */
MEMLIMIT_ALWAYS_INLINE bool may_begin_page(const void* block) noexcept {
  const auto offset = static_cast<uint16_t>(reinterpret_cast<uintptr_t>(block));
#if defined(__x86_64__) && !MEMLIMIT_THREAD_SANITIZER
  // GCC takes three instructions for it.
  bool below;
  __asm__("cmpw %[offset], %[looked_at]"
          : "=@ccae"(below)
          : [offset] "r"(offset), [looked_at] "m"(looked_at_offset));
  return below;
#else
  return offset <= looked_at_offset.load(std::memory_order_relaxed);
#endif
}

/** From the constructor: the call is what makes the loader fill the directory. */
void note_loaded() noexcept;

/** Every block's slot is looked at from now on: somebody takes blocks from the allocator's pages that
 *  are not seen here. */
void look_at_every_block() noexcept;

/** Whether all blocks of a size are aligned so. Blocks lie one after the other from the beginning of a
 *  page, so a size that is a multiple of the alignment aligns them all if it aligns the first. mimalloc
 *  begins pages of blocks up to 1 KiB 384 bytes into the slice, and the others with the slice; whoever
 *  relies on that looks at the block it got. */
MEMLIMIT_ALWAYS_INLINE bool naturally_aligned(size_t block_bytes, size_t alignment) noexcept {
  return (block_bytes & (alignment - 1)) == 0 && (alignment <= 128 || block_bytes > 1024);
}

/** The allocator made blocks of `actual_bytes` where the tables say `table_bytes`: the tables follow. */
MEMLIMIT_COLD void correct(size_t table_bytes, size_t actual_bytes) noexcept;

/** Records the size of a block that was just allocated and may begin a new page. Returns its usable
 *  bytes, or 0 when no slot could be had (out of address space): the block must then not be handed out. */
MEMLIMIT_COLD size_t remember(const void* block) noexcept;

/** As remember(), for a block that may begin inside one of the allocator's blocks. */
MEMLIMIT_COLD size_t remember_aligned(const void* block) noexcept;

}  // namespace memlimit::block_size
