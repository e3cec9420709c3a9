/* See hints.h. */
#include "heap/hints.h"

#include <bit>

#include "system/os.h"

namespace memlimit::heap::hints {
namespace {

using Word = std::atomic<uint64_t>;

/* 64 regions, made when the first of them is. */
struct Group {
  std::atomic<Region*> regions[64];
  Word words[kHintKinds];
};

/* All atomics of the tree are used in the default order: the invariant rests on it. */
struct Middle {
  Word words[kHintKinds];
};

constinit Word tops[kHintKinds];
constinit Middle middles[64];
constinit std::atomic<Group*> groups[kMaxRegions / 64];

constexpr uint64_t bit(uint32_t index) noexcept { return uint64_t{1} << (index & 63); }

/* Bits from `from` on. */
constexpr uint64_t not_below(uint64_t word, uint32_t from) noexcept {
  return word & ~uint64_t{0} << (from & 63);
}

Word& middle(unsigned kind, uint32_t group) noexcept { return middles[group >> 6].words[kind]; }

Group* group_at(uint32_t group) noexcept { return groups[group].load(std::memory_order_acquire); }

/* The bit is set already, most of the time: then the line stays shared. */
void set_bit(Word& word, uint32_t index) noexcept {
  if ((word.load() & bit(index)) == 0) word.fetch_or(bit(index));
}

void clear_middle(unsigned kind, uint32_t group) noexcept {
  Word& word = middle(kind, group);
  word.fetch_and(~bit(group));
  if (group_at(group)->words[kind].load() != 0) set_bit(word, group);
  if (word.load() != 0) return;
  tops[kind].fetch_and(~bit(group >> 6));
  if (word.load() != 0) set_bit(tops[kind], group >> 6);
}

/* The lowest group not below `from`. */
uint32_t find_group(unsigned kind, uint32_t from) noexcept {
  for (uint64_t top = not_below(tops[kind].load(), from >> 6); top != 0; top &= top - 1) {
    const auto high = static_cast<uint32_t>(std::countr_zero(top));
    uint64_t word = middles[high].words[kind].load();
    if (high == from >> 6) word = not_below(word, from);
    if (word != 0) return high << 6 | static_cast<uint32_t>(std::countr_zero(word));
  }
  return kNoRegion;
}

}  // namespace

bool make_room(uint32_t region_id) noexcept {
  std::atomic<Group*>& entry = groups[region_id >> 6];
  if (entry.load(std::memory_order_acquire) != nullptr) return true;
  void* const fresh = os::map_pages(sizeof(Group));
  if (fresh == nullptr) return false;
  Group* none = nullptr;
  // Release: the group's pages were there before it is found. Two threads may make one each.
  if (!entry.compare_exchange_strong(none, static_cast<Group*>(fresh), std::memory_order_acq_rel)) {
    os::unmap_pages(fresh, sizeof(Group));
  }
  return true;
}

void set_region(uint32_t region_id, Region* region) noexcept {
  group_at(region_id >> 6)->regions[region_id & 63].store(region, std::memory_order_release);
}

Region* region(uint32_t region_id) noexcept {
  Group* const group = group_at(region_id >> 6);
  return group == nullptr ? nullptr
                          : group->regions[region_id & 63].load(std::memory_order_acquire);
}

void set(unsigned kind, uint32_t region_id) noexcept {
  const uint32_t group = region_id >> 6;
  set_bit(group_at(group)->words[kind], region_id);
  set_bit(middle(kind, group), group);
  set_bit(tops[kind], group >> 6);
}

uint32_t find(unsigned kind, uint32_t from) noexcept {
  while (from < kMaxRegions) {
    const uint32_t group = find_group(kind, from >> 6);
    if (group == kNoRegion) return kNoRegion;
    uint64_t word = group_at(group)->words[kind].load();
    const bool first = group == from >> 6;
    if (word == 0) clear_middle(kind, group);
    if (first) word = not_below(word, from);
    if (word != 0) return group << 6 | static_cast<uint32_t>(std::countr_zero(word));
    from = (group + 1) << 6;
  }
  return kNoRegion;
}

bool any(unsigned kind) noexcept { return tops[kind].load() != 0; }

void clear(unsigned kind, uint32_t region_id) noexcept {
  const uint32_t group = region_id >> 6;
  Word& word = group_at(group)->words[kind];
  word.fetch_and(~bit(region_id));
  if (word.load() == 0) clear_middle(kind, group);
}

}  // namespace memlimit::heap::hints
