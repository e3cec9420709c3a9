/* See page_map.h. Every count is the difference that one atomic exchange of bits made, so the sum is that
 * of the bits whoever came first. */
#include "page_map.h"

#include <algorithm>
#include <bit>

#include "os.h"

namespace memlimit {
namespace {

constexpr uint64_t kAll = ~uint64_t{0};

/* The states of a region without a leaf; a leaf's address is larger than any. */
constexpr uintptr_t kWholeNone = 0;
constexpr uintptr_t kWholeReserved = 1;
constexpr uintptr_t kWholeData = 2;

int64_t count(uint64_t bits) noexcept { return std::popcount(bits); }

/* `bits` of them (1 to 64), from bit `first` on. */
uint64_t mask_of(size_t first, size_t bits) noexcept { return kAll >> (64 - bits) << first; }

}  // namespace

int64_t PageMap::set(uintptr_t address, size_t length, Use use) noexcept {
  Change change;
  change.set = true;
  change.use = use;
  return apply(address, length, change);
}

int64_t PageMap::protect(uintptr_t address, size_t length, bool writable,
                         bool accessible) noexcept {
  if (!writable && accessible) return 0;
  Change change;
  change.writable = writable;
  change.accessible = accessible;
  return apply(address, length, change);
}

PageMap::Use PageMap::at(uintptr_t address) const noexcept {
  const size_t region = address >> kRegionShift;
  if (region >= kRegions) return Use::kNone;
  const uintptr_t state = regions_[region].load(std::memory_order_acquire);
  if (state == kWholeNone) return Use::kNone;
  if (state == kWholeReserved) return Use::kReserved;
  if (state == kWholeData) return Use::kData;
  const Leaf& leaf = *reinterpret_cast<const Leaf*>(state);
  const size_t page = (address >> kPageShift) % kRegionPages;
  const uint64_t bit = uint64_t{1} << page % kWordPages;
  const size_t word = page / kWordPages;
  if ((leaf.data[word].load(std::memory_order_relaxed) & bit) != 0) return Use::kData;
  return (leaf.anonymous[word].load(std::memory_order_relaxed) & bit) != 0 ? Use::kReserved
                                                                           : Use::kNone;
}

bool PageMap::uniform(uintptr_t address, size_t length) const noexcept {
  if (length == 0 || address > UINTPTR_MAX - (length - 1)) return true;
  const Use first = at(address);
  uintptr_t page = address >> kPageShift;
  const uintptr_t end = ((address + length - 1) >> kPageShift) + 1;
  while (page < end) {
    const size_t region = page / kRegionPages;
    const uintptr_t state =
        region < kRegions ? regions_[region].load(std::memory_order_acquire) : kWholeNone;
    const size_t index = page % kRegionPages;
    if (state <= kWholeData) {
      if (static_cast<Use>(state) != first) return false;
      page += kRegionPages - index;
      continue;
    }
    const Leaf& leaf = *reinterpret_cast<const Leaf*>(state);
    const size_t word = index / kWordPages;
    const size_t bits = std::min<size_t>(end - page, kWordPages - index % kWordPages);
    const uint64_t mask = mask_of(index % kWordPages, bits);
    const uint64_t anonymous = leaf.anonymous[word].load(std::memory_order_relaxed) & mask;
    const uint64_t data = leaf.data[word].load(std::memory_order_relaxed) & mask;
    if (anonymous != (first == Use::kNone ? 0 : mask)) return false;
    if (data != (first == Use::kData ? mask : 0)) return false;
    page += bits;
  }
  return true;
}

int64_t PageMap::apply(uintptr_t address, size_t length, const Change& change) noexcept {
  constexpr uintptr_t kLastPage = (uintptr_t{1} << (kAddressBits - kPageShift)) - 1;
  constexpr uintptr_t kInPage = (uintptr_t{1} << kPageShift) - 1;
  if (length == 0 || address > UINTPTR_MAX - (length - 1) - kInPage) return 0;
  uintptr_t page = address >> kPageShift;
  const uintptr_t end = std::min((address + length - 1) >> kPageShift, kLastPage) + 1;
  int64_t pages = 0;
  while (page < end) {
    const size_t region = page / kRegionPages;
    const size_t first = page % kRegionPages;
    const size_t last = std::min<size_t>(first + (end - page), kRegionPages);
    pages += apply_in_region(region, first, last, change);
    page += last - first;
  }
  const int64_t bytes = pages * (int64_t{1} << kPageShift);
  if (bytes != 0) data_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return bytes;
}

int64_t PageMap::apply_in_region(size_t region, size_t first, size_t end,
                                 const Change& change) noexcept {
  const uintptr_t state = regions_[region].load(std::memory_order_acquire);
  if (state <= kWholeData) {
    // The whole region is what a part of it is to become: no leaf for that.
    if (state_after(state, change) == state) return 0;
    int64_t pages;
    if (first == 0 && end == kRegionPages && replace_whole(region, change, &pages)) return pages;
  }
  Leaf* const leaf = leaf_for(region);
  if (leaf == nullptr) return 0;
  int64_t pages = 0;
  while (first < end) {
    const size_t word = first / kWordPages;
    const size_t bits = std::min(end - first, kWordPages - first % kWordPages);
    pages += apply_to_word(*leaf, word, mask_of(first % kWordPages, bits), change);
    first += bits;
  }
  return pages;
}

int64_t PageMap::apply_to_word(Leaf& leaf, size_t word, uint64_t mask,
                               const Change& change) noexcept {
  std::atomic<uint64_t>& anonymous = leaf.anonymous[word];
  std::atomic<uint64_t>& data = leaf.data[word];
  const bool to_data = change.set ? change.use == Use::kData : change.writable;
  if (to_data) {
    const uint64_t wanted = change.set ? mask : mask & anonymous.load(std::memory_order_relaxed);
    if (change.set) anonymous.fetch_or(mask, std::memory_order_relaxed);
    return count(wanted & ~data.fetch_or(wanted, std::memory_order_relaxed));
  }
  const int64_t fewer = count(mask & data.fetch_and(~mask, std::memory_order_relaxed));
  if (change.set && change.use == Use::kReserved) {
    anonymous.fetch_or(mask, std::memory_order_relaxed);
  } else if (change.set) {
    anonymous.fetch_and(~mask, std::memory_order_relaxed);
  }
  return -fewer;
}

uintptr_t PageMap::state_after(uintptr_t state, const Change& change) noexcept {
  static_assert(static_cast<uintptr_t>(Use::kNone) == kWholeNone &&
                static_cast<uintptr_t>(Use::kReserved) == kWholeReserved &&
                static_cast<uintptr_t>(Use::kData) == kWholeData);
  if (change.set) return static_cast<uintptr_t>(change.use);
  if (state == kWholeNone) return kWholeNone;
  return change.writable ? kWholeData : kWholeReserved;
}

bool PageMap::replace_whole(size_t region, const Change& change, int64_t* pages) noexcept {
  std::atomic<uintptr_t>& entry = regions_[region];
  uintptr_t state = entry.load(std::memory_order_acquire);
  while (state <= kWholeData) {
    const uintptr_t next = state_after(state, change);
    if (next == state || entry.compare_exchange_weak(state, next, std::memory_order_acq_rel,
                                                     std::memory_order_acquire)) {
      const int64_t after = next == kWholeData ? 1 : 0;
      const int64_t before = state == kWholeData ? 1 : 0;
      *pages = (after - before) * static_cast<int64_t>(kRegionPages);
      return true;
    }
  }
  return false;
}

PageMap::Leaf* PageMap::leaf_for(size_t region) noexcept {
  std::atomic<uintptr_t>& entry = regions_[region];
  uintptr_t state = entry.load(std::memory_order_acquire);
  if (state > kWholeData) return reinterpret_cast<Leaf*>(state);
  auto* const fresh = static_cast<Leaf*>(os::map_pages(sizeof(Leaf)));
  if (fresh == nullptr) return nullptr;
  uintptr_t filled = kWholeNone; /* fresh pages are zeros */
  for (;;) {
    if (filled != state) {
      const uint64_t anonymous = state >= kWholeReserved ? kAll : 0;
      const uint64_t data = state == kWholeData ? kAll : 0;
      for (auto& word : fresh->anonymous) word.store(anonymous, std::memory_order_relaxed);
      for (auto& word : fresh->data) word.store(data, std::memory_order_relaxed);
      filled = state;
    }
    if (entry.compare_exchange_strong(state, reinterpret_cast<uintptr_t>(fresh),
                                      std::memory_order_acq_rel, std::memory_order_acquire)) {
      return fresh;
    }
    if (state > kWholeData) {
      os::unmap_pages(fresh, sizeof(Leaf));
      return reinterpret_cast<Leaf*>(state);
    }
  }
}

}  // namespace memlimit
