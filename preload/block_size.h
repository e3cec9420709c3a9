/* How many bytes a block has, in a handful of instructions.
 *
 * mi_usable_size() finds the segment and the page that mi_free() then finds again: 30 instructions a
 * call. Two facts about mimalloc 2 and 3 replace it:
 *   - a request is rounded up to one of a few dozen sizes (mi_good_size), so a small table gives the size
 *     of a new block from the size asked for;
 *   - all blocks that begin in one 64 KiB-aligned slice of address space belong to one page of the
 *     allocator, and so have one size for as long as any of them lives. The size is kept in a slot for
 *     each slice, written when the first such block is handed out and read when a block is freed.
 * Neither is trusted: whoever allocates compares the slot with the table, and where they differ (a new
 * page, or an allocator that does it otherwise) remember() asks mi_usable_size(). So a slice whose blocks
 * were not what the table says is merely slower.
 *
 * Slots lie in leaves of 4 MiB (mostly untouched) for each 64 GiB of address space; a directory finds the
 * leaf. Regions without a leaf share one that is all zeros and never written: nullptr, too, has 0 bytes.
 *
 * Threads: all. A slot is written with a value that is right for every live block of its slice, so the
 * order in which threads see it does not matter.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "account.h"
#include "attributes.h"

namespace memlimit::block_size {

inline constexpr unsigned kSliceShift = 16;
inline constexpr unsigned kRegionShift = 36;
inline constexpr size_t kLeafSlots = size_t{1} << (kRegionShift - kSliceShift);
/* How far user space reaches for a program that does not ask for more: 2^47 on x86-64, 2^48 on arm64. */
#if defined(__x86_64__)
#define MEMLIMIT_REGIONS 2048
#else
#define MEMLIMIT_REGIONS 4096
#endif
inline constexpr size_t kRegions = MEMLIMIT_REGIONS;

/* A slot with this bit does not tell the size: ask the allocator. Counting so many bytes exhausts any
 * thread's allowance, so the free takes the slow path without a test of its own. The bit stays: blocks
 * aligned beyond what the allocator guarantees may begin anywhere in such a slice. */
inline constexpr uint32_t kAskAllocator = account::kUnknownBytes;

/* Requests up to this size are looked up; they are rounded up in steps of 16. */
inline constexpr size_t kTableMaxBytes = size_t{16} << 10;
inline constexpr size_t kTableStep = 16;

inline constexpr size_t kTableEntries = kTableMaxBytes / kTableStep;

/* Block size for requests of (16 * i, 16 * (i + 1)] bytes. Until the allocator has been asked it is one
 * byte short of a multiple of 16: the allocator makes the same block of it, and no slot ever holds such a
 * number, so the first allocation of a size leaves the fast path where that of a new page does. */
extern std::atomic<uint32_t> table[kTableEntries];

using Slot = std::atomic<uint32_t>;

/* directory[region] + (address >> 16) is the slot: entries are biased so that the whole slice number
 * is the index. Assembled in block_size.cc, since C++ has no word for such a pointer. */
extern "C" __attribute__((visibility("hidden"))) Slot* memlimit_slot_directory[kRegions];

MEMLIMIT_ALWAYS_INLINE Slot& slot_of(const void* block) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(block);
  return memlimit_slot_directory[address >> kRegionShift][address >> kSliceShift];
}

/** The index into `table` for a request; out of range for 0 and for what is too large. */
MEMLIMIT_ALWAYS_INLINE size_t table_index(size_t bytes) noexcept {
  return (bytes - 1) / kTableStep;
}
/** Whether all blocks of a size are aligned so. Blocks lie one after the other from the beginning of a
 *  page, so a size that is a multiple of the alignment aligns them all if it aligns the first. mimalloc
 *  begins pages of blocks up to 1 KiB 128 bytes into the slice, and the others with the slice; whoever
 *  relies on that looks at the block it got. False for an entry that has not been looked up. */
MEMLIMIT_ALWAYS_INLINE bool naturally_aligned(size_t block_bytes, size_t alignment) noexcept {
  return (block_bytes & (alignment - 1)) == 0 && (alignment <= 128 || block_bytes > 1024);
}

/** Fills the entry (and its neighbours of the same size) if it has not been looked up; the argument is
 *  what the entry holds. */
MEMLIMIT_COLD void look_up(size_t entry) noexcept;

/** Records the size of a block that was just allocated and may begin a new page. Returns its usable
 *  bytes, or 0 when no slot could be had (out of address space): the block must then not be handed out. */
MEMLIMIT_COLD size_t remember(const void* block) noexcept;

/** As remember(), for a block that may begin inside one of the allocator's blocks. */
MEMLIMIT_COLD size_t remember_aligned(const void* block) noexcept;

}  // namespace memlimit::block_size
