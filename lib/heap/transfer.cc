/* See transfer.h. */
#include "heap/transfer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "heap/hints.h"
#include "heap/misuse.h"
#include "heap/purge.h"

namespace memlimit::heap::transfer {
namespace {

constexpr uint64_t kEntryBytes = sizeof(void*);

/* Only the owner writes: a load and a store, not an atomic addition. Release: see figures::totals(). What is taken is
 * counted before it is seen in a stack, what is returned after it was last seen there. */
void add(std::atomic<uint64_t>& counter, uint64_t bytes) noexcept {
  counter.store(counter.load(std::memory_order_relaxed) + bytes, std::memory_order_release);
}

uint64_t top_of(const ThreadCache& cache, unsigned class_index) noexcept {
  return cache.tops[class_index].load(std::memory_order_relaxed);
}

uint64_t floor_of(const ThreadCache& cache, unsigned class_index) noexcept {
  return ThreadCache::floor_of(class_index, top_of(cache, class_index));
}

uint32_t room_of(const ThreadCache& cache, unsigned class_index) noexcept {
  return static_cast<uint32_t>((cache.ends[class_index] - floor_of(cache, class_index)) /
                               kEntryBytes);
}

/* The stack moves when it outgrows its place. */
void set_room(ThreadCache& cache, unsigned class_index, uint32_t room) noexcept {
  const uint64_t top = top_of(cache, class_index);
  uint64_t floor = floor_of(cache, class_index);
  if (floor == kStackPlaces.near[class_index] && room > near_blocks(kClasses[class_index])) {
    const uint64_t moved = kStackPlaces.far[class_index];
    memcpy(&cache.slot(moved), &cache.slot(floor), top - floor + kEntryBytes);
    cache.tops[class_index].store(moved + (top - floor), std::memory_order_relaxed);
    floor = moved;
  }
  cache.ends[class_index] = floor + room * kEntryBytes;
}

SpanRef leased(const ThreadCache& cache, unsigned class_index) noexcept {
  const uint64_t lease = cache.leases[class_index].load(std::memory_order_relaxed);
  return {reinterpret_cast<Region*>(lease & ~uint64_t{63}), static_cast<unsigned>(lease & 63)};
}

/* Blocks of one class on their way back: those that share a word of a bitmap are collected, in any order, and go back
 * together. */
class Returns {
 public:
  explicit Returns(unsigned class_index) noexcept
      : class_index_(class_index), info_(kClasses[class_index]) {}

  void all(void* const* blocks, size_t count) noexcept {
    const uint64_t reciprocal = info_.reciprocal;
    Word none{};
    Word* here = &none;
    uint64_t bits = 0; /* those of `here` */
    for (void* const* const end = blocks + count; blocks != end; ++blocks) {
      const Place at = place_of(*blocks, reciprocal);
      if (at.word != here->address) {
        here->bits = bits;
        here = &find(at.word);
        bits = here->bits;
      }
      if (MEMLIMIT_UNLIKELY((bits & at.bit) != 0)) freed_twice(*blocks);
      bits |= at.bit;
    }
    here->bits = bits;
    for (; used_ != 0; used_ &= used_ - 1) give_back(words_[std::countr_zero(used_)]);
  }

  void one(void* block) noexcept {
    const Place at = place_of(block, info_.reciprocal);
    give_back({at.word, at.bit});
  }

 private:
  static constexpr unsigned kPlaces = 32;

  /* The slice's address and the word's number below it: no word is 0. */
  struct Word {
    uintptr_t address;
    uint64_t bits;
  };
  struct Place {
    uintptr_t word;
    uint64_t bit;
  };

  MEMLIMIT_ALWAYS_INLINE Place place_of(const void* block, uint64_t reciprocal) const noexcept {
    const auto address = reinterpret_cast<uintptr_t>(block);
    const uintptr_t slice = address & ~(kSliceBytes - 1);
    const uint64_t product = (address - slice) * reciprocal;
    // The fraction: less than one block's where a block begins (heap_test.cc tries all).
    if (MEMLIMIT_UNLIKELY(static_cast<uint32_t>(product) >= reciprocal)) invalid(block);
    return {slice | product >> 38, uint64_t{1} << (product >> 32 & 63)};
  }

  /* A word's place follows from its slice and number: what another word has there is given back first. */
  Word& find(uintptr_t address) noexcept {
    const size_t index = ((address >> kSliceShift) + address) % kPlaces;
    const uint64_t place = uint64_t{1} << index;
    Word& word = words_[index];
    if ((used_ & place) != 0 && word.address == address) return word;
    if ((used_ & place) != 0) give_back(word);
    used_ |= place;
    word = {address, 0};
    return word;
  }

  void give_back(const Word& word) noexcept {
    const auto number = static_cast<unsigned>(word.address & (kSliceBytes - 1));
    const auto* const base = reinterpret_cast<const char*>(word.address - number);
    Region* const region = region_at(base);
    // It was of the class when it was pushed. A span changes its class only without blocks in the program's hands.
    if (MEMLIMIT_UNLIKELY(region == nullptr || class_at(base) != class_index_))
      freed_twice(block_at(base, number, word.bits));
    // Behind the last block there may be room for less than one.
    const uint64_t none = word.bits & ~spans::full_word(info_, number);
    if (MEMLIMIT_UNLIKELY(none != 0)) invalid(block_at(base, number, none));
    const SpanRef span{region, region->slice_of(base)};
    const uint64_t twice = spans::return_blocks(span, class_index_, number, word.bits);
    if (MEMLIMIT_UNLIKELY(twice != 0)) freed_twice(block_at(base, number, twice));
  }

  const void* block_at(const char* base, unsigned word, uint64_t bits) const noexcept {
    const size_t number = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
    return base + number * info_.block_bytes;
  }

  [[noreturn]] MEMLIMIT_COLD void freed_twice(const void* block) const noexcept {
    report_misuse(Misuse::kDoubleFree, block, info_.block_bytes);
  }
  [[noreturn]] MEMLIMIT_COLD void invalid(const void* block) const noexcept {
    report_misuse(Misuse::kInvalidPointer, block, info_.block_bytes);
  }

  const unsigned class_index_;
  const ClassInfo info_;
  uint64_t used_ = 0; /* of the words: which are filled in */
  Word words_[kPlaces];
};

/* Gives the oldest blocks of a stack back. */
void flush_to(ThreadCache& cache, unsigned class_index, uint32_t left) noexcept {
  const uint32_t have = cache.stacked(class_index);
  if (have <= left) return;
  const uint32_t count = have - left;
  const uint64_t floor = floor_of(cache, class_index);
  void** const oldest = &cache.slot(floor + kEntryBytes);
  // The cache is held, and nobody takes over another thread's stack: the blocks may lie in it a moment longer.
  Returns(class_index).all(oldest, count);
  memmove(oldest, oldest + count, left * kEntryBytes);
  cache.tops[class_index].store(floor + left * kEntryBytes, std::memory_order_relaxed);
  add(cache.returned_bytes, uint64_t{count} * kClasses[class_index].block_bytes);
  if (hints::find(kEmptySpans) != kNoRegion) decay::note_free_slices();
}

/* Halves the stacks of other classes, one after the other, until the budget has so much. */
bool steal_budget(ThreadCache& cache, unsigned class_index, uint32_t wanted_bytes) noexcept {
  constexpr unsigned kLooks = 8;
  for (unsigned i = 0; i < kLooks && cache.budget_bytes < wanted_bytes; ++i) {
    const unsigned victim = cache.next_victim % kSmallClasses + 1;
    cache.next_victim = static_cast<uint8_t>(victim);
    const uint32_t room = room_of(cache, victim);
    if (victim == class_index || room == 0) continue;
    flush_to(cache, victim, std::min(cache.stacked(victim), room / 2));
    set_room(cache, victim, room / 2);
    cache.budget_bytes += (room - room / 2) * kClasses[victim].block_bytes;
  }
  return cache.budget_bytes >= wanted_bytes;
}

bool try_grow(ThreadCache& cache, unsigned class_index, uint32_t room, uint32_t most) noexcept {
  constexpr uint8_t kWaits = 128;
  const ClassInfo& info = kClasses[class_index];
  const uint32_t first_room = std::clamp<uint32_t>(2048 / info.block_bytes, 2, 16);
  const uint32_t wanted = std::min(std::max(room * 2, first_room), most);
  const uint32_t more_bytes = (wanted - room) * info.block_bytes;
  if (cache.budget_bytes < more_bytes) {
    // Only now and then, or classes that are all in use would take from each other for ever.
    if (room > 0 && ++cache.waits[class_index] % kWaits != 0) return false;
    if (!steal_budget(cache, class_index, more_bytes)) return false;
  }
  cache.budget_bytes -= more_bytes;
  set_room(cache, class_index, wanted);
  return true;
}

/* A stack begins small and doubles when it runs empty or full: but beyond a point only when the one follows the other,
 * since then what is given back is wanted again. False: it stays as it is. */
bool grow(ThreadCache& cache, unsigned class_index, bool full) noexcept {
  const ClassInfo& info = kClasses[class_index];
  const bool turned = cache.flushed[class_index] != full;
  cache.flushed[class_index] = full;
  const uint32_t most = turned ? info.capacity : info.eager;
  const uint32_t room = room_of(cache, class_index);
  return room < most && try_grow(cache, class_index, room, most);
}

/* The lowest `count` bits that are set. */
uint64_t lowest_bits(uint64_t word, uint32_t count) noexcept {
  if (count >= 64) return word;
  if (word == ~uint64_t{0}) return (uint64_t{1} << count) - 1;
  uint64_t rest = word;
  for (uint32_t i = 0; i < count && rest != 0; ++i) rest &= rest - 1;
  return word ^ rest;
}

/* Pushes blocks by their bits so that the lowest comes off first. */
void push_blocks(ThreadCache& cache, unsigned class_index, SpanRef span, unsigned word,
                 uint64_t bits) noexcept {
  const size_t block_bytes = kClasses[class_index].block_bytes;
  char* const first = span.base() + size_t{word} * 64 * block_bytes;
  const auto lowest = static_cast<unsigned>(std::countr_zero(bits));
  const auto highest = 63 - static_cast<unsigned>(std::countl_zero(bits));
  const uint64_t bottom = top_of(cache, class_index) + kEntryBytes;
  void** place = &cache.slot(bottom);
  if (bits >> lowest == ~uint64_t{0} >> (63 - highest + lowest)) {
    // All in a row, as of a new span.
    char* block = first + highest * block_bytes;
    for (unsigned i = lowest; i <= highest; ++i, block -= block_bytes) *place++ = block;
  } else {
    for (unsigned i; bits != 0; bits ^= uint64_t{1} << i) {
      i = 63 - static_cast<unsigned>(std::countl_zero(bits));
      *place++ = first + i * block_bytes;
    }
  }
  const auto pushed = static_cast<uint64_t>(place - &cache.slot(bottom));
  cache.tops[class_index].store(bottom + (pushed - 1) * kEntryBytes, std::memory_order_release);
}

/* Claims from the leased span until the stack has `enough`, at most `most`. False: the span has no more. */
bool claim_from(ThreadCache& cache, unsigned class_index, SpanRef span, uint32_t enough,
                uint32_t most) noexcept {
  const ClassInfo& info = kClasses[class_index];
  unsigned word = cache.lease_words[class_index];
  const uint32_t had = cache.stacked(class_index);
  uint32_t have = had;
  // The words are pushed last to first, so that blocks come off in the order of their addresses.
  struct Claim {
    unsigned word;
    uint64_t bits;
  } claims[64];
  unsigned claimed = 0;
  while (word < info.words && have < enough && claimed < std::size(claims)) {
    const uint64_t free = span.word(word).load(std::memory_order_relaxed);
    uint64_t bits = free == 0 ? 0 : lowest_bits(free, most - have);
    if (bits != 0) bits = spans::claim(span, class_index, word, bits);
    if (bits != 0) {
      claims[claimed++] = {word, bits};
      have += static_cast<uint32_t>(std::popcount(bits));
    }
    if (bits == 0 || bits == free) ++word;
  }
  cache.lease_words[class_index] = static_cast<uint8_t>(word);
  add(cache.taken_bytes, uint64_t{have - had} * info.block_bytes);
  while (claimed > 0) {
    const Claim& claim = claims[--claimed];
    spans::touch(span, class_index, claim.word, claim.bits);
    push_blocks(cache, class_index, span, claim.word, claim.bits);
  }
  return word < info.words;
}

}  // namespace

void give_up_lease(ThreadCache& cache, unsigned class_index) noexcept {
  const SpanRef span = leased(cache, class_index);
  if (!span) return;
  cache.leases[class_index].store(0, std::memory_order_relaxed);
  cache.lease_words[class_index] = 0;
  spans::end_lease(span);
}

void* refill(ThreadCache& cache, unsigned class_index) noexcept {
  grow(cache, class_index, false);
  const uint32_t room = room_of(cache, class_index);
  if (room == 0) return nullptr;
  // Not too many at a time: it may have grown for blocks that come back.
  constexpr uint32_t kEnough = 128;
  const uint32_t enough = std::clamp<uint32_t>(room / 2, 1, kEnough);
  const uint32_t most = std::min(room - room / 4, 2 * kEnough);
  for (;;) {
    SpanRef span = leased(cache, class_index);
    if (!span) {
      span = spans::lease(class_index);
      if (!span) break;
      cache.leases[class_index].store(reinterpret_cast<uint64_t>(span.region) | span.slice,
                                      std::memory_order_relaxed);
      cache.lease_words[class_index] = 0;
    }
    if (!claim_from(cache, class_index, span, enough, most)) give_up_lease(cache, class_index);
    if (cache.stacked(class_index) >= enough) break;
  }
  const uint64_t top = top_of(cache, class_index);
  if (cache.stacked(class_index) == 0) return nullptr;
  cache.tops[class_index].store(top - kEntryBytes, std::memory_order_relaxed);
  return cache.slot(top);
}

void push(ThreadCache& cache, unsigned class_index, void* block) noexcept {
  // As the fast path does, which did not get so far.
  if (MEMLIMIT_UNLIKELY(cache.slot(top_of(cache, class_index)) == block)) {
    report_misuse(Misuse::kDoubleFree, block, kClasses[class_index].block_bytes);
  }
  const bool full = cache.stacked(class_index) == room_of(cache, class_index);
  if (full && !grow(cache, class_index, true)) {
    const uint32_t room = room_of(cache, class_index);
    if (room == 0) {
      add(cache.returned_bytes, kClasses[class_index].block_bytes);
      Returns(class_index).one(block);
      return;
    }
    // Of one that has grown large not half: nobody should wait for so many.
    constexpr uint32_t kMostAtOnce = 2048;
    flush_to(cache, class_index, room - std::clamp<uint32_t>(room / 2, 1, kMostAtOnce));
  }
  const uint64_t top = top_of(cache, class_index) + kEntryBytes;
  cache.slot(top) = block;
  cache.tops[class_index].store(top, std::memory_order_relaxed);
}

void set_bound(ThreadCache& cache, uint32_t bytes) noexcept {
  if (bytes >= cache.bound_bytes) {
    cache.budget_bytes += bytes - cache.bound_bytes;
  } else {
    // Each begins anew: the ones that are in use grow first.
    for (unsigned i = 1; i <= kSmallClasses; ++i) {
      flush_to(cache, i, 0);
      set_room(cache, i, 0);
    }
    cache.budget_bytes = bytes;
  }
  cache.bound_bytes = bytes;
}

void flush_all(ThreadCache& cache) noexcept {
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    flush_to(cache, i, 0);
    give_up_lease(cache, i);
  }
}

void* take_one(unsigned class_index) noexcept {
  const ClassInfo& info = kClasses[class_index];
  while (const SpanRef span = spans::lease(class_index)) {
    uint64_t bits = 0;
    unsigned word = 0;
    for (; word < info.words && bits == 0; word += bits == 0) {
      const uint64_t free = span.word(word).load(std::memory_order_relaxed);
      if (free != 0) bits = spans::claim(span, class_index, word, free & -free);
    }
    if (bits != 0) spans::touch(span, class_index, word, bits);
    char* const base = span.base();
    spans::end_lease(span);
    if (bits == 0) continue;
    const size_t index = size_t{word} * 64 + static_cast<size_t>(std::countr_zero(bits));
    return base + index * info.block_bytes;
  }
  return nullptr;
}

void return_one(unsigned class_index, void* block) noexcept { Returns(class_index).one(block); }

}  // namespace memlimit::heap::transfer
