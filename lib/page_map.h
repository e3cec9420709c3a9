/* Which pages of the address space a program has mapped for its own data, two bits a page.
 *
 * Answers for: the number of bytes in private anonymous mappings that the program made itself, that are
 * accessible and have been writable since they were mapped: exact, since each page is counted once
 * however calls overlap. Refuses to know what the kernel holds of them (pages never touched count too,
 * as do those dropped by madvise) and memory that does not hold a program's data: mappings of files,
 * shared ones, reservations without access.
 *
 * Bits lie in leaves of 64 KiB for each GiB of address space, made when the first bit in it is set, of
 * which only touched pages cost memory: two of 4 KiB for each 128 MiB. A GiB that is set whole needs no
 * leaf, so that a mapping of terabytes costs a word a GiB. What lies beyond 128 TiB is not counted.
 *
 * Threads: all, in any context. Lock-free: calls that overlap in time and place leave every page counted
 * at most once. In the child of fork the map is right as it is.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace memlimit {

class PageMap {
 public:
  constexpr PageMap() noexcept = default;
  PageMap(const PageMap&) = delete;
  PageMap& operator=(const PageMap&) = delete;

  /** What a range of pages is now. */
  enum class Use : uint8_t {
    kNone,     /* not the program's anonymous memory: unmapped, a file, shared */
    kReserved, /* private and anonymous, but never writable, or without access */
    kData,     /* private, anonymous, and writable or once writable: counted */
  };

  /** The range [address, address + length) became this; rounded out to whole pages. Returns by how much
   *  the count changed, in bytes. Maps pages for itself when a leaf is missing; when that fails the
   *  range stays as it was. */
  int64_t set(uintptr_t address, size_t length, Use use) noexcept;

  /** Access to the range changed: what is kReserved or kData becomes kData with `writable`, and kReserved
   *  without `accessible`; kNone stays. Returns by how much the count changed, in bytes. */
  int64_t protect(uintptr_t address, size_t length, bool writable, bool accessible) noexcept;

  /** What the page at the address is. */
  Use at(uintptr_t address) const noexcept;

  /** Whether all pages of the range are what the first one is. */
  bool uniform(uintptr_t address, size_t length) const noexcept;

  /** Bytes in pages that are kData; never negative. */
  int64_t data_bytes() const noexcept { return data_bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr unsigned kPageShift = 12;
  static constexpr unsigned kRegionShift = 30;
  static constexpr unsigned kAddressBits = 47;
  static constexpr size_t kRegions = size_t{1} << (kAddressBits - kRegionShift);
  static constexpr size_t kRegionPages = size_t{1} << (kRegionShift - kPageShift);
  static constexpr size_t kWordPages = 64;

  struct Leaf {
    std::atomic<uint64_t> anonymous[kRegionPages / kWordPages];
    std::atomic<uint64_t> data[kRegionPages / kWordPages]; /* a subset of `anonymous` */
  };

  /* One call's effect on a word of pages. */
  struct Change {
    bool set = false; /* set(), else protect() */
    Use use = Use::kNone;
    bool writable = false;
    bool accessible = false;
  };

  int64_t apply(uintptr_t address, size_t length, const Change& change) noexcept;
  int64_t apply_in_region(size_t region, size_t first, size_t end, const Change& change) noexcept;
  static int64_t apply_to_word(Leaf& leaf, size_t word, uint64_t mask,
                               const Change& change) noexcept;
  static uintptr_t state_after(uintptr_t state, const Change& change) noexcept;
  bool replace_whole(size_t region, const Change& change, int64_t* pages) noexcept;
  Leaf* leaf_for(size_t region) noexcept;

  /* 0: all pages kNone. 1, 2: all kReserved, all kData. Else a leaf, which stays for ever. */
  std::atomic<uintptr_t> regions_[kRegions]{};
  std::atomic<int64_t> data_bytes_{0};
};

}  // namespace memlimit
