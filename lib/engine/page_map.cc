/* See page_map.h. Every count is the difference that one atomic exchange of bits made, so the sum is that
 * of the bits whoever came first. */
#include "engine/page_map.h"

#include <algorithm>
#include <bit>

#include "system/os.h"

namespace memlimit {
namespace {

constexpr uint64_t kAll = ~uint64_t{0};

/* The states of a region without a leaf; a leaf's address is larger than any. */
constexpr uint64_t kWholeNone = 0;
constexpr uint64_t kWholeReserved = 1;
constexpr uint64_t kWholeData = 2;

/* Addresses of user space have 48 bits at most; 65,535 calls at once in one GiB are more than there can be threads. */
constexpr uint64_t kOneInside = uint64_t{1} << 48;

/* In a bit that a leaf's address, that of a page, does not need: the one call that is inside may give the leaf
 * back. Set by that call alone, cleared by whoever enters. */
constexpr uint64_t kClosing = 4;
constexpr uint64_t kAddress = kOneInside - 1 - kClosing;

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

PageMap::Region* PageMap::find(size_t index) const noexcept {
  if (index >= kRegions) return nullptr;
  Part* const part = parts_[index / kPartRegions].load(std::memory_order_acquire);
  return part == nullptr ? nullptr : &part->regions[index % kPartRegions];
}

PageMap::Region* PageMap::find_or_make(size_t index) noexcept {
  if (Region* const region = find(index)) return region;
  auto* const fresh = static_cast<Part*>(os::map_pages(sizeof(Part)));
  if (fresh == nullptr) return nullptr;
  Part* seen = nullptr;
  // Zero pages are regions of which nothing is known.
  if (!parts_[index / kPartRegions].compare_exchange_strong(seen, fresh, std::memory_order_acq_rel,
                                                            std::memory_order_acquire)) {
    os::unmap_pages(fresh, sizeof(Part));
  }
  return find(index);
}

PageMap::Use PageMap::at(uintptr_t address) const noexcept {
  Region* const region = find(address >> kRegionShift);
  if (region == nullptr) return Use::kNone;
  uint64_t state = kWholeNone;
  const Leaf* const leaf = enter(*region, &state);
  if (leaf == nullptr) return static_cast<Use>(state);
  const size_t page = (address >> kPageShift) % kRegionPages;
  const uint64_t bit = uint64_t{1} << page % kWordPages;
  const Word& word = leaf->words[page / kWordPages];
  Use use = Use::kNone;
  if ((word.data.load(std::memory_order_relaxed) & bit) != 0) {
    use = Use::kData;
  } else if ((word.anonymous.load(std::memory_order_relaxed) & bit) != 0) {
    use = Use::kReserved;
  }
  leave(*region, 0);
  return use;
}

bool PageMap::uniform_in_leaf(const Leaf& leaf, size_t first, size_t end, Use use) noexcept {
  while (first < end) {
    const Word& word = leaf.words[first / kWordPages];
    const size_t bits = std::min(end - first, kWordPages - first % kWordPages);
    const uint64_t mask = mask_of(first % kWordPages, bits);
    const uint64_t anonymous = word.anonymous.load(std::memory_order_relaxed) & mask;
    const uint64_t data = word.data.load(std::memory_order_relaxed) & mask;
    if (anonymous != (use == Use::kNone ? 0 : mask)) return false;
    if (data != (use == Use::kData ? mask : 0)) return false;
    first += bits;
  }
  return true;
}

bool PageMap::uniform(uintptr_t address, size_t length) const noexcept {
  if (length == 0 || address > UINTPTR_MAX - (length - 1)) return true;
  const Use use = at(address);
  uintptr_t page = address >> kPageShift;
  const uintptr_t end = ((address + length - 1) >> kPageShift) + 1;
  while (page < end) {
    Region* const region = find(page / kRegionPages);
    const size_t first = page % kRegionPages;
    const size_t last = std::min<size_t>(first + (end - page), kRegionPages);
    uint64_t state = kWholeNone;
    const Leaf* const leaf = region != nullptr ? enter(*region, &state) : nullptr;
    bool same = static_cast<Use>(state) == use;
    if (leaf != nullptr) {
      same = uniform_in_leaf(*leaf, first, last, use);
      leave(*region, 0);
    }
    if (!same) return false;
    page += last - first;
  }
  return true;
}

int64_t PageMap::apply(uintptr_t address, size_t length, const Change& change) noexcept {
  constexpr uintptr_t kLastPage = (uintptr_t{1} << (kAddressBits - kPageShift)) - 1;
  const uintptr_t in_page = page_bytes() - 1;
  if (length == 0 || address > UINTPTR_MAX - (length - 1) - in_page) return 0;
  uintptr_t page = (address & ~in_page) >> kPageShift;
  const uintptr_t end = std::min(((address + length - 1) | in_page) >> kPageShift, kLastPage) + 1;
  int64_t pages = 0;
  while (page < end) {
    const size_t first = page % kRegionPages;
    const size_t last = std::min<size_t>(first + (end - page), kRegionPages);
    const size_t index = page / kRegionPages;
    // What was never mapped stays so without a part.
    const bool needs_part = state_after(kWholeNone, change) != kWholeNone;
    Region* const region = needs_part ? find_or_make(index) : find(index);
    if (region != nullptr) pages += apply_in_region(*region, first, last, change);
    page += last - first;
  }
  const int64_t bytes = pages * (int64_t{1} << kPageShift);
  if (bytes != 0) data_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return bytes;
}

int64_t PageMap::apply_in_region(Region& region, size_t first, size_t end,
                                 const Change& change) noexcept {
  const uint64_t state = region.state.load(std::memory_order_acquire);
  if (state <= kWholeData) {
    // The whole region is what a part of it is to become: no leaf for that.
    if (state_after(state, change) == state) return 0;
    int64_t pages;
    if (first == 0 && end == kRegionPages && replace_whole(region, change, &pages)) return pages;
  }
  Leaf* const leaf = enter_or_make(region);
  if (leaf == nullptr) return 0;
  Changed changed;
  while (first < end) {
    const size_t bits = std::min(end - first, kWordPages - first % kWordPages);
    apply_to_word(leaf->words[first / kWordPages], mask_of(first % kWordPages, bits), change,
                  &changed);
    first += bits;
  }
  leave(region, changed.bits);
  return changed.data_pages;
}

void PageMap::apply_to_word(Word& word, uint64_t mask, const Change& change,
                            Changed* changed) noexcept {
  const auto note_data = [changed](int64_t pages) {
    changed->data_pages += pages;
    changed->bits += pages;
  };
  const bool to_data = change.set ? change.use == Use::kData : change.writable;
  if (to_data) {
    uint64_t wanted = mask;
    if (change.set) {
      changed->bits += count(mask & ~word.anonymous.fetch_or(mask, std::memory_order_relaxed));
    } else {
      wanted &= word.anonymous.load(std::memory_order_relaxed);
    }
    note_data(count(wanted & ~word.data.fetch_or(wanted, std::memory_order_relaxed)));
    return;
  }
  note_data(-count(mask & word.data.fetch_and(~mask, std::memory_order_relaxed)));
  if (change.set && change.use == Use::kReserved) {
    changed->bits += count(mask & ~word.anonymous.fetch_or(mask, std::memory_order_relaxed));
  } else if (change.set) {
    changed->bits -= count(mask & word.anonymous.fetch_and(~mask, std::memory_order_relaxed));
  }
}

uint64_t PageMap::state_after(uint64_t state, const Change& change) noexcept {
  static_assert(static_cast<uint64_t>(Use::kNone) == kWholeNone &&
                static_cast<uint64_t>(Use::kReserved) == kWholeReserved &&
                static_cast<uint64_t>(Use::kData) == kWholeData);
  if (change.set) return static_cast<uint64_t>(change.use);
  if (state == kWholeNone) return kWholeNone;
  return change.writable ? kWholeData : kWholeReserved;
}

bool PageMap::replace_whole(Region& region, const Change& change, int64_t* pages) noexcept {
  uint64_t state = region.state.load(std::memory_order_acquire);
  while (state <= kWholeData) {
    const uint64_t next = state_after(state, change);
    if (next == state || region.state.compare_exchange_weak(state, next, std::memory_order_acq_rel,
                                                            std::memory_order_acquire)) {
      const int64_t after = next == kWholeData ? 1 : 0;
      const int64_t before = state == kWholeData ? 1 : 0;
      *pages = (after - before) * static_cast<int64_t>(kRegionPages);
      return true;
    }
  }
  return false;
}

PageMap::Leaf* PageMap::enter(Region& region, uint64_t* state) noexcept {
  uint64_t seen = region.state.load(std::memory_order_acquire);
  while (seen > kWholeData) {
    if (region.state.compare_exchange_weak(seen, (seen & ~kClosing) + kOneInside,
                                           std::memory_order_acquire, std::memory_order_acquire)) {
      return reinterpret_cast<Leaf*>(seen & kAddress);
    }
  }
  *state = seen;
  return nullptr;
}

PageMap::Leaf* PageMap::enter_or_make(Region& region) noexcept {
  uint64_t state = kWholeNone;
  if (Leaf* const leaf = enter(region, &state)) return leaf;
  auto* const fresh = static_cast<Leaf*>(os::map_pages(sizeof(Leaf)));
  if (fresh == nullptr) return nullptr;
  const uint64_t entered = reinterpret_cast<uint64_t>(fresh) + kOneInside;
  uint64_t filled = kWholeNone; /* fresh pages are zeros */
  for (;;) {
    if (filled != state) {
      const uint64_t anonymous = state >= kWholeReserved ? kAll : 0;
      const uint64_t data = state == kWholeData ? kAll : 0;
      for (Word& word : fresh->words) {
        word.anonymous.store(anonymous, std::memory_order_relaxed);
        word.data.store(data, std::memory_order_relaxed);
      }
      filled = state;
    }
    if (region.state.compare_exchange_strong(state, entered, std::memory_order_acq_rel,
                                             std::memory_order_acquire)) {
      // While this call is inside nobody asks whether the leaf is empty.
      region.bits.fetch_add(static_cast<int64_t>(filled * kRegionPages), std::memory_order_relaxed);
      return fresh;
    }
    if (state > kWholeData) {
      if (Leaf* const leaf = enter(region, &state)) {
        os::unmap_pages(fresh, sizeof(Leaf));
        return leaf;
      }
    }
  }
}

void PageMap::leave(Region& region, int64_t changed_bits) noexcept {
  if (changed_bits != 0) region.bits.fetch_add(changed_bits, std::memory_order_relaxed);
  uint64_t state = region.state.load(std::memory_order_acquire);
  for (;;) {
    // The last one inside sees what all others have added: each left by an exchange of `state`.
    const bool is_last = state / kOneInside == 1;
    const bool empty = is_last && region.bits.load(std::memory_order_relaxed) == 0;
    const bool closing = (state & kClosing) != 0;
    uint64_t next = (state & ~kClosing) - kOneInside;
    // Between the look at the bits and the exchange others can have been here, set pages and left, and `state`
    // would be what it was. So the look counts that comes after kClosing: nobody has entered since, or it is
    // gone, and nobody else can set it as long as this call is inside.
    if (empty) next = closing ? kWholeNone : state | kClosing;
    if (!region.state.compare_exchange_weak(state, next, std::memory_order_acq_rel,
                                            std::memory_order_acquire)) {
      continue;
    }
    if (!empty) return;
    if (closing) {
      os::unmap_pages(reinterpret_cast<void*>(state & kAddress), sizeof(Leaf));
      return;
    }
    state = next;
  }
}

}  // namespace memlimit
