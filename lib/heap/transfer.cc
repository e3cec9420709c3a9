/* See transfer.h. */
#include "heap/transfer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "heap/hints.h"
#include "heap/misuse.h"
#include "heap/purge.h"
#include "heap/returns.h"

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
  return cache.floor_of(class_index, top_of(cache, class_index));
}

uint32_t room_of(const ThreadCache& cache, unsigned class_index) noexcept {
  return static_cast<uint32_t>((cache.ends[class_index] - floor_of(cache, class_index)) /
                               kEntryBytes);
}

/* Keeps what own_cached_bytes() needs. */
void note_room(ThreadCache& cache, unsigned class_index, uint64_t former_floor, uint64_t floor,
               bool has_room) noexcept {
  const uint64_t block_bytes = kClasses[class_index].block_bytes;
  const uint64_t bit = uint64_t{1} << class_index % 64;
  uint64_t& with_room = cache.with_room[class_index / 64];
  if ((with_room & bit) != 0) cache.weighed_floors -= former_floor * block_bytes;
  if (has_room) cache.weighed_floors += floor * block_bytes;
  with_room = has_room ? with_room | bit : with_room & ~bit;
}

/* The stack moves when it outgrows its place. False: there is no memory for another. */
bool set_room(ThreadCache& cache, unsigned class_index, uint32_t room) noexcept {
  const uint64_t top = top_of(cache, class_index);
  const uint64_t former_floor = floor_of(cache, class_index);
  uint64_t floor = former_floor;
  if (floor == kStackPlaces.near[class_index] && room > near_blocks(kClasses[class_index])) {
    const uint64_t moved = cache.far_place(class_index);
    if (moved == 0) return false;
    memcpy(&cache.slot(moved), &cache.slot(floor), top - floor + kEntryBytes);
    cache.tops[class_index].store(moved + (top - floor), std::memory_order_relaxed);
    floor = moved;
  }
  cache.ends[class_index] = floor + room * kEntryBytes;
  note_room(cache, class_index, former_floor, floor, room > 0);
  return true;
}

SpanRef leased(const ThreadCache& cache, unsigned class_index) noexcept {
  const uint64_t lease = cache.leases[class_index].load(std::memory_order_relaxed);
  return {reinterpret_cast<Region*>(lease & ~uint64_t{63}), static_cast<unsigned>(lease & 63)};
}

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
  if (hints::any(kEmptySpans)) decay::note_free_slices();
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
  if (!set_room(cache, class_index, wanted)) return false;
  cache.budget_bytes -= more_bytes;
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
