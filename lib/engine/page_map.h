/* Which pages of the address space a program has mapped for its own data, two bits a page.
 *
 * Answers for: the number of bytes in private anonymous mappings that the program made itself, that are
 * accessible and have been writable since they were mapped: exact, since each page is counted once
 * however calls overlap. Refuses to know what the kernel holds of them (pages never touched count too,
 * as do those dropped by madvise) and memory that does not hold a program's data: mappings of files,
 * shared ones, reservations without access.
 *
 * Bits lie in leaves of 64 KiB for each GiB of address space, of which only touched pages cost memory: 4 KiB
 * for each 64 MiB. A leaf is made when the first bit in it is set and given back when the last is cleared: V8
 * maps its pages all over the address space, each time elsewhere. A GiB that is set whole needs no leaf, so
 * that a mapping of terabytes costs two words a GiB. Those words lie in parts of 1 TiB, made when something is first mapped
 * there and kept: a table of all would be 4 MiB of variables, which count where a process's memory is locked or its data are
 * limited. What lies beyond 256 TiB is not counted: a program gets that only where it asks for it.
 *
 * Threads: all, in any context. Lock-free: calls that overlap in time and place leave every page counted
 * at most once. In the child of fork the map is right as it is; a leaf that another thread was using in the
 * moment of the fork stays for ever.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace memlimit {

class PageMap {
 public:
  static constexpr size_t kLeastPageBytes = 4096;

  constexpr PageMap() noexcept = default;
  PageMap(const PageMap&) = delete;
  PageMap& operator=(const PageMap&) = delete;

  /** What a range of pages is now. */
  enum class Use : uint8_t {
    kNone,     /* not the program's anonymous memory: unmapped, a file, shared */
    kReserved, /* private and anonymous, but never writable, or without access */
    kData,     /* private, anonymous, and writable or once writable: counted */
  };

  /** How large the kernel's pages are, a multiple of kLeastPageBytes: ranges are rounded out to those. Before the first range. */
  void set_page_bytes(size_t bytes) noexcept {
    page_bytes_.store(bytes, std::memory_order_relaxed);
  }
  size_t page_bytes() const noexcept { return page_bytes_.load(std::memory_order_relaxed); }

  /** The range [address, address + length) became this; rounded out to whole pages. Returns by how much
   *  the count changed, in bytes. Maps pages for itself when a leaf or a part is missing; when that
   *  fails the range stays as it was. */
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
  static constexpr unsigned kAddressBits = 48;
  static constexpr size_t kRegions = size_t{1} << (kAddressBits - kRegionShift);
  static constexpr size_t kPartRegions = 1024;
  static constexpr size_t kRegionPages = size_t{1} << (kRegionShift - kPageShift);
  static constexpr size_t kWordPages = 64;

  struct Word {
    std::atomic<uint64_t> anonymous;
    std::atomic<uint64_t> data; /* a subset of `anonymous` */
  };
  struct Leaf {
    Word words[kRegionPages / kWordPages];
  };

  struct Region {
    /* 0: all pages kNone. 1, 2: all kReserved, all kData. Else a leaf's address, in the bits above those of
     * an address how many calls are using it (are "in" it): while any is, it stays; and kClosing. */
    std::atomic<uint64_t> state{0};
    /* Bits set in the leaf, both kinds; each call adds its own before it leaves. */
    std::atomic<int64_t> bits{0};
  };

  struct Part {
    Region regions[kPartRegions];
  };

  /* What one call changed in a leaf. */
  struct Changed {
    int64_t data_pages = 0;
    int64_t bits = 0;
  };

  /* One call's effect on a word of pages. */
  struct Change {
    bool set = false; /* set(), else protect() */
    Use use = Use::kNone;
    bool writable = false;
    bool accessible = false;
  };

  /* nullptr: all of its part is kNone, or the region lies beyond what is counted. */
  Region* find(size_t index) const noexcept;
  /* The same, but makes the part; nullptr when that is impossible. */
  Region* find_or_make(size_t index) noexcept;

  int64_t apply(uintptr_t address, size_t length, const Change& change) noexcept;
  int64_t apply_in_region(Region& region, size_t first, size_t end, const Change& change) noexcept;
  static void apply_to_word(Word& word, uint64_t mask, const Change& change,
                            Changed* changed) noexcept;
  static uint64_t state_after(uint64_t state, const Change& change) noexcept;
  static bool replace_whole(Region& region, const Change& change, int64_t* pages) noexcept;
  static bool uniform_in_leaf(const Leaf& leaf, size_t first, size_t end, Use use) noexcept;

  /* The leaf, which must be left again, or nullptr and the state of the whole region. */
  static Leaf* enter(Region& region, uint64_t* state) noexcept;
  /* The same, but makes a leaf where there is none; nullptr when that is impossible. */
  static Leaf* enter_or_make(Region& region) noexcept;
  static void leave(Region& region, int64_t changed_bits) noexcept;

  std::atomic<Part*> parts_[kRegions / kPartRegions]{};
  std::atomic<size_t> page_bytes_{kLeastPageBytes};
  std::atomic<int64_t> data_bytes_{0};
};

}  // namespace memlimit
