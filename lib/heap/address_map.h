/* What begins in a slice of the address space: the one look-up of free().
 *
 * Each slice of 64 KiB has a byte: the class of the blocks in it, or kNoClass. The bytes lie in leaves, one for each
 * 4 GiB that holds memory of ours; a directory finds the leaf. Where there is none it finds one of zeros, so any
 * address of user space may be asked about, nullptr too, and nothing is read that may not exist. Directory entries are
 * offsets from the leaf of zeros: nothing needs to be filled in before the first call.
 *
 * Threads: all. A slice's byte changes only in the hands of whoever owns the whole slice; who reads it for a block
 * that it holds reads what was written before that block was handed out. Leaves are never given back.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "heap/size_classes.h"

namespace memlimit::heap {

struct Region;

inline constexpr unsigned kRegionShift = 22;
inline constexpr size_t kRegionBytes = size_t{1} << kRegionShift;
inline constexpr unsigned kWindowShift = 32;

/** A block with a mapping of its own. `bytes` is 0 while it is no block. */
struct HugeBlock {
  std::atomic<size_t> bytes;
  std::atomic<size_t> mapped_bytes; /* at least as many */
  std::atomic<const struct PageSource*> source;
};

/* User space reaches to 2^47 on x86-64, to 2^48 elsewhere, for a program that does not ask for more. */
#if defined(__x86_64__)
inline constexpr size_t kWindows = size_t{1} << (47 - kWindowShift);
#else
inline constexpr size_t kWindows = size_t{1} << (48 - kWindowShift);
#endif

struct AddressLeaf {
  static constexpr size_t kSlices = size_t{1} << (kWindowShift - kSliceShift);
  static constexpr size_t kRegions = size_t{1} << (kWindowShift - kRegionShift);

  std::atomic<uint8_t> classes[kSlices]; /* first: its address is the leaf's */
  std::atomic<Region*> regions[kRegions];
  HugeBlock huge[kRegions]; /* by where it begins: no two begin in the same 4 MiB */
};

struct AddressDirectory {
  std::atomic<intptr_t> leaf_offsets[kWindows]; /* from no_leaf; 0: there is none */
  std::atomic<uint8_t> no_leaf[AddressLeaf::kSlices];
};

MEMLIMIT_HIDDEN extern constinit AddressDirectory address_directory;

namespace detail {

/** Where the value comes from is not known to the compiler any more. Costs nothing. */
template <typename Value>
MEMLIMIT_ALWAYS_INLINE void hide(Value& value) noexcept {
  __asm__("" : "+r"(value));
}

}  // namespace detail

/** The class byte of a slice. The address must be one of user space: others fault here, as they would in any use, and in
 *  glibc's free(). A mask that finds a leaf of zeros for them is one more instruction in each free(). To be written only
 *  where there is a leaf: all slices without one share their bytes. */
MEMLIMIT_ALWAYS_INLINE std::atomic<uint8_t>& class_byte(const void* address) noexcept {
  const auto number = reinterpret_cast<uintptr_t>(address);
  AddressDirectory* directory = &address_directory;
  detail::hide(directory);  // one register for both of its arrays
  // Relaxed: who holds a block got it after its leaf was made, from whoever handed it over; and a leaf that is too new
  // for this thread has nothing of its.
  const std::atomic<intptr_t>& offset = directory->leaf_offsets[number >> kWindowShift];
  intptr_t slice = static_cast<uint32_t>(number) >> kSliceShift;
#if defined(__x86_64__) && !MEMLIMIT_THREAD_SANITIZER
  // GCC takes two instructions for it.
  __asm__("addq %[offset], %[slice]" : [slice] "+r"(slice) : [offset] "m"(offset) : "cc");
#else
  slice += offset.load(std::memory_order_relaxed);
#endif
  // Not an index: a leaf lies anywhere.
  const uintptr_t leaves =
      reinterpret_cast<uintptr_t>(directory) + offsetof(AddressDirectory, no_leaf);
  return *reinterpret_cast<std::atomic<uint8_t>*>(leaves + static_cast<uintptr_t>(slice));
}

MEMLIMIT_ALWAYS_INLINE unsigned class_at(const void* address) noexcept {
  return class_byte(address).load(std::memory_order_relaxed);
}

/** Whether user space may reach so far. */
inline bool is_user_address(const void* address) noexcept {
  return reinterpret_cast<uintptr_t>(address) >> kWindowShift < kWindows;
}

/** The leaf of an address; nullptr when it has none. */
AddressLeaf* find_leaf(const void* address) noexcept;

/** Makes sure that the next make_leaves() for one address cannot fail, unless another thread comes first. */
[[nodiscard]] bool reserve_leaf() noexcept;

/** Makes the leaves for a range of addresses where they are missing; false when there is no memory for them. */
[[nodiscard]] bool make_leaves(const void* begin, size_t bytes) noexcept;

/** Bytes of all leaves; hardly any of their pages are touched. */
size_t leaf_bytes() noexcept;

/** The region that an address lies in; nullptr. */
Region* region_at(const void* address) noexcept;

/** Sets (or, with nullptr, clears) the region of 4 MiB of addresses, which have a leaf. */
void set_region_at(const void* address, Region* region) noexcept;

/** The record for a huge block that begins at an address, which has a leaf. */
HugeBlock& huge_block_at(const void* address) noexcept;

}  // namespace memlimit::heap
