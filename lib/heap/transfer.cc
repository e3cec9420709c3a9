/* See transfer.h. */
#include "heap/transfer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "heap/misuse.h"

namespace memlimit::heap::transfer {
namespace {

constexpr uint64_t kEntryBytes = sizeof(void*);

/* Only the owner writes: a load and a store, not an atomic addition. */
void add(std::atomic<uint64_t>& counter, uint64_t bytes) noexcept {
  counter.store(counter.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
}

uint64_t top_of(const ThreadCache& cache, unsigned class_index) noexcept {
  return cache.tops[class_index].load(std::memory_order_relaxed);
}

uint32_t room_of(const ThreadCache& cache, unsigned class_index) noexcept {
  return static_cast<uint32_t>((cache.ends[class_index] - kFloors[class_index]) / kEntryBytes);
}

void set_room(ThreadCache& cache, unsigned class_index, uint32_t room) noexcept {
  cache.ends[class_index] = kFloors[class_index] + room * kEntryBytes;
}

SpanRef leased(const ThreadCache& cache, unsigned class_index) noexcept {
  const uint64_t lease = cache.leases[class_index].load(std::memory_order_relaxed);
  return {reinterpret_cast<Region*>(lease & ~uint64_t{63}), static_cast<unsigned>(lease & 63)};
}

/* Blocks of one class on their way back: what follows each other in one span is collected, and goes back a word at a
 * time. */
class Returns {
 public:
  explicit Returns(unsigned class_index) noexcept
      : class_index_(class_index), info_(kClasses[class_index]) {
    for (unsigned i = 0; i < info_.words; ++i) bits_[i] = 0;
  }

  void all(void* const* blocks, size_t count) noexcept {
    void* const* const end = blocks + count;
    while (blocks != end) {
      const SpanRef span = span_of(*blocks);
      blocks = collect(blocks, end, reinterpret_cast<uintptr_t>(span.base()));
      for (; touched_ != 0; touched_ &= touched_ - 1) {
        return_word(span, static_cast<unsigned>(std::countr_zero(touched_)));
      }
    }
  }

  void one(void* block) noexcept { all(&block, 1); }

 private:
  /* Up to the first block that lies in another slice. */
  void* const* collect(void* const* blocks, void* const* end, uintptr_t base) noexcept {
    const uint64_t reciprocal = info_.reciprocal;
    uint64_t touched = 0; /* words */
    do {
      const uintptr_t offset = reinterpret_cast<uintptr_t>(*blocks) - base;
      if (offset >= kSliceBytes) break;
      const uint64_t product = offset * reciprocal;
      uint64_t& bits = bits_[product >> 38];
      const uint64_t bit = uint64_t{1} << (product >> 32 & 63);
      // The fraction: less than one block's where a block begins (heap_test.cc tries all).
      if (MEMLIMIT_UNLIKELY(static_cast<uint32_t>(product) >= reciprocal)) invalid(*blocks);
      if (MEMLIMIT_UNLIKELY((bits & bit) != 0))
        report_misuse(Misuse::kDoubleFree, *blocks, info_.block_bytes);
      bits |= bit;
      touched |= uint64_t{1} << (product >> 38);
    } while (++blocks != end);
    touched_ = touched;
    return blocks;
  }

  void return_word(SpanRef span, unsigned word) noexcept {
    const uint64_t bits = bits_[word];
    bits_[word] = 0;
    // Behind the last block there may be room for less than one.
    const uint64_t none = bits & ~spans::full_word(info_, word);
    if (MEMLIMIT_UNLIKELY(none != 0)) invalid(block_at(span, word, none));
    const uint64_t twice = spans::return_blocks(span, class_index_, word, bits);
    if (MEMLIMIT_UNLIKELY(twice != 0)) {
      report_misuse(Misuse::kDoubleFree, block_at(span, word, twice), info_.block_bytes);
    }
  }

  SpanRef span_of(const void* block) const noexcept {
    Region* const region = region_at(block);
    // It was of the class when it was pushed. A span changes its class only without blocks in the program's hands.
    if (MEMLIMIT_UNLIKELY(region == nullptr || class_at(block) != class_index_)) {
      report_misuse(Misuse::kDoubleFree, block, info_.block_bytes);
    }
    return {region, region->slice_of(block)};
  }

  const void* block_at(SpanRef span, unsigned word, uint64_t bits) const noexcept {
    const size_t number = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
    return span.base() + number * info_.block_bytes;
  }

  [[noreturn]] MEMLIMIT_COLD void invalid(const void* block) const noexcept {
    report_misuse(Misuse::kInvalidPointer, block, info_.block_bytes);
  }

  const unsigned class_index_;
  const ClassInfo info_;
  uint64_t touched_ = 0;
  uint64_t bits_[64];
};

/* Gives the oldest blocks of a stack back. */
void flush_to(ThreadCache& cache, unsigned class_index, uint32_t left) noexcept {
  const uint32_t have = cache.stacked(class_index);
  if (have <= left) return;
  const uint32_t count = have - left;
  void** const floor = &cache.slot(kFloors[class_index] + kEntryBytes);
  add(cache.returned_bytes, uint64_t{count} * kClasses[class_index].block_bytes);
  // The cache is held, and nobody takes over another thread's stack: the blocks may lie in it a moment longer.
  Returns(class_index).all(floor, count);
  memmove(floor, floor + count, left * kEntryBytes);
  cache.tops[class_index].store(kFloors[class_index] + left * kEntryBytes,
                                std::memory_order_relaxed);
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

bool try_grow(ThreadCache& cache, unsigned class_index, uint32_t room) noexcept {
  constexpr uint8_t kWaits = 128;
  const ClassInfo& info = kClasses[class_index];
  const uint32_t first_room = std::clamp<uint32_t>(2048 / info.block_bytes, 2, 16);
  const uint32_t wanted = std::min<uint32_t>(std::max(room * 2, first_room), info.capacity);
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

/* A stack begins small and doubles when it runs empty or full, up to its capacity. False: it stays as it is. */
bool grow(ThreadCache& cache, unsigned class_index) noexcept {
  const uint32_t room = room_of(cache, class_index);
  return room < kClasses[class_index].capacity && try_grow(cache, class_index, room);
}

/* The lowest `count` bits that are set. */
uint64_t lowest_bits(uint64_t word, uint32_t count) noexcept {
  if (word == ~uint64_t{0}) return count >= 64 ? word : (uint64_t{1} << count) - 1;
  if (static_cast<uint32_t>(std::popcount(word)) <= count) return word;
  uint64_t rest = word;
  for (uint32_t i = 0; i < count; ++i) rest &= rest - 1;
  return word ^ rest;
}

/* Pushes blocks by their bits so that the lowest comes off first. */
void push_blocks(ThreadCache& cache, unsigned class_index, SpanRef span, unsigned word,
                 uint64_t bits) noexcept {
  const size_t block_bytes = kClasses[class_index].block_bytes;
  char* const first = span.base() + size_t{word} * 64 * block_bytes;
  const auto count = static_cast<uint32_t>(std::popcount(bits));
  const uint64_t top = top_of(cache, class_index) + count * kEntryBytes;
  void** place = &cache.slot(top);
  while (bits != 0) {
    *place-- = first + static_cast<size_t>(std::countr_zero(bits)) * block_bytes;
    bits &= bits - 1;
  }
  cache.tops[class_index].store(top, std::memory_order_relaxed);
}

/* Claims from the leased span until the stack has `enough`, at most `most`. False: the span has no more. */
bool claim_from(ThreadCache& cache, unsigned class_index, SpanRef span, uint32_t enough,
                uint32_t most) noexcept {
  const ClassInfo& info = kClasses[class_index];
  unsigned word = cache.lease_words[class_index];
  uint32_t have = cache.stacked(class_index);
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
  grow(cache, class_index);
  const uint32_t room = room_of(cache, class_index);
  if (room == 0) return nullptr;
  const uint32_t enough = std::max<uint32_t>(room / 2, 1);
  const uint32_t most = room - room / 4;
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
  const uint32_t got = cache.stacked(class_index);
  if (got == 0) return nullptr;
  add(cache.taken_bytes, uint64_t{got} * kClasses[class_index].block_bytes);
  cache.tops[class_index].store(top - kEntryBytes, std::memory_order_relaxed);
  return cache.slot(top);
}

void push(ThreadCache& cache, unsigned class_index, void* block) noexcept {
  // As the fast path does, which did not get so far.
  if (MEMLIMIT_UNLIKELY(cache.slot(top_of(cache, class_index)) == block)) {
    report_misuse(Misuse::kDoubleFree, block, kClasses[class_index].block_bytes);
  }
  const bool full = cache.stacked(class_index) == room_of(cache, class_index);
  if (full && !grow(cache, class_index)) {
    const uint32_t room = room_of(cache, class_index);
    if (room == 0) {
      add(cache.returned_bytes, kClasses[class_index].block_bytes);
      Returns(class_index).one(block);
      return;
    }
    flush_to(cache, class_index, room / 2);
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
