/* See span.h. */
#include "heap/span.h"

#include "heap/hints.h"

namespace memlimit::heap::spans {
namespace {

constinit std::atomic<int64_t> counts[kSpanClasses + 1];

constexpr uint64_t bit(unsigned slice) noexcept { return uint64_t{1} << slice; }

bool has_free(SpanRef span, unsigned words) noexcept {
  for (unsigned i = 0; i < words; ++i) {
    if (span.word(i).load() != 0) return true;
  }
  return false;
}

bool is_whole(SpanRef span, const ClassInfo& info) noexcept {
  for (unsigned i = 0; i < info.words; ++i) {
    if (span.word(i).load(std::memory_order_relaxed) != full_word(info, i)) return false;
  }
  return true;
}

/* A region's word of hints, and the tree above it: in this order (hints.h). The words are sequentially consistent. */
void set_hint(std::atomic<uint64_t>& word, unsigned kind, SpanRef span) noexcept {
  if ((word.load() & bit(span.slice)) != 0) return;
  word.fetch_or(bit(span.slice));
  hints::set(kind, span.region->id);
}

/* A span may have pages to purge. Both steps are sequentially consistent: see hints.h, and Purger::span(). */
void note_freed(SpanRef span) noexcept {
  std::atomic<uint8_t>& freed = span.state().freed;
  if (freed.load() != 0) return;
  freed.store(1);
  hints::set(kFreedSpans, span.region->id);
}

/* Sets the bits, and the hints that follow from them; returns those that were set. */
uint64_t set_bits(SpanRef span, unsigned class_index, unsigned word, uint64_t bits) noexcept {
  const ClassInfo& info = kClasses[class_index];
  // Release: the owner is done with the blocks. Sequentially consistent: see end_lease() and hints.h.
  const uint64_t before = span.word(word).fetch_or(bits);
  const uint64_t after = before | bits;
  if (span.state().leased.load() == 0) {
    set_hint(span.region->partial(class_index), class_index, span);
    if (after == full_word(info, word) && is_whole(span, info)) {
      set_hint(span.region->empty_spans, kEmptySpans, span);
    }
  }
  return before & bits;
}

/* Takes a slice's bit from the lowest region that has one. Whoever clears the bit has what it stands for, if that is
 * there. */
template <typename WordOf>
SpanRef take_hint(unsigned kind, WordOf word_of) noexcept {
  uint32_t id = hints::find(kind);
  while (id != kNoRegion) {
    Region* const region = hints::region(id);
    std::atomic<uint64_t>& word = word_of(*region);
    uint64_t seen = word.load();
    while (seen != 0) {
      const auto slice = static_cast<unsigned>(std::countr_zero(seen));
      seen = word.fetch_and(~bit(slice));
      if ((seen & bit(slice)) != 0) return {region, slice};
    }
    hints::clear(kind, id);
    if (word.load() != 0) {
      hints::set(kind, id);
    } else {
      ++id;
    }
    id = hints::find(kind, id);
  }
  return {};
}

/* Cuts a slice that the caller owns, whose bits are all clear, into blocks of the class, and leases it. */
SpanRef make(SpanRef span, unsigned class_index, bool dirty) noexcept {
  const ClassInfo& info = kClasses[class_index];
  SliceState& state = span.state();
  state.leased.store(1, std::memory_order_relaxed);
  // Pages that nobody has touched need no purge; those that others have, and this class may never, do.
  state.freed.store(0, std::memory_order_relaxed);
  if (dirty) note_freed(span);
  state.purged_pages.store(dirty ? 0 : UINT16_MAX, std::memory_order_relaxed);
  span.class_byte().store(static_cast<uint8_t>(class_index), std::memory_order_relaxed);
  counts[class_index].fetch_add(1, std::memory_order_relaxed);
  // Release: who claims a block sees the class. A plain store: nobody else can have a bit to set, and who clears one by
  // a stale hint either comes before, and finds none, or after, and has it.
  for (unsigned i = 0; i < info.words; ++i) {
    span.word(i).store(full_word(info, i), std::memory_order_release);
  }
  return span;
}

/* A span of any class that is wholly free and becomes one of this. */
SpanRef take_empty() noexcept {
  constexpr int kTries = 4;
  for (int i = 0; i < kTries; ++i) {
    const SpanRef span = take_hint(
        kEmptySpans, [](Region & r) -> auto& { return r.empty_spans; });
    if (!span) return {};
    const unsigned class_index = span.class_byte().load(std::memory_order_relaxed);
    if (class_index == kNoClass || class_index > kSpanClasses) continue;
    if (span.state().leased.load() == 0 && take_whole(span, class_index)) {
      forget(span, class_index);
      return span;
    }
  }
  return {};
}

}  // namespace

SpanRef lease(unsigned class_index) noexcept {
  for (;;) {
    const SpanRef span = take_hint(
        class_index, [&](Region & r) -> auto& { return r.partial(class_index); });
    if (!span) break;
    // The hint may be stale: then the slice is whatever it is now, and the lease is not ours to set.
    if (span.class_byte().load(std::memory_order_relaxed) != class_index) continue;
    span.state().leased.store(1);
    // Empty again, it begins to age anew.
    std::atomic<uint64_t>& aged = span.region->aged_spans;
    if ((aged.load(std::memory_order_relaxed) & bit(span.slice)) != 0) {
      aged.fetch_and(~bit(span.slice), std::memory_order_relaxed);
    }
    return span;
  }
  if (const SpanRef span = take_empty()) return make(span, class_index, true);
  const SliceRun run = regions::take_slices(1, kSliceBytes);
  if (run.region == nullptr) return {};
  return make({run.region, run.first}, class_index, run.dirty);
}

void end_lease(SpanRef span) noexcept {
  // Sequentially consistent: who returned a block before saw no lease, or we see the block.
  span.state().leased.store(0);
  const unsigned class_index = span.class_byte().load(std::memory_order_relaxed);
  if (class_index != kNoClass && class_index <= kSpanClasses) offer(span, class_index);
}

void offer(SpanRef span, unsigned class_index) noexcept {
  const ClassInfo& info = kClasses[class_index];
  if (!has_free(span, info.words)) return;
  if (is_whole(span, info)) set_hint(span.region->empty_spans, kEmptySpans, span);
  set_hint(span.region->partial(class_index), class_index, span);
}

uint64_t claim(SpanRef span, unsigned class_index, unsigned word, uint64_t wanted) noexcept {
  // Acquire: what the last owner of the block wrote comes before what the next one does.
  const uint64_t got = span.word(word).fetch_and(~wanted, std::memory_order_acq_rel) & wanted;
  if (got == 0) return 0;
  const unsigned now = span.class_byte().load(std::memory_order_relaxed);
  if (MEMLIMIT_LIKELY(now == class_index)) return got;
  return_blocks(span, now, word, got);
  return 0;
}

uint64_t return_blocks(SpanRef span, unsigned class_index, unsigned word, uint64_t bits) noexcept {
  const uint64_t twice = set_bits(span, class_index, word, bits);
  // Afterwards: a purge that comes between must not take the mark and leave the blocks. If the span is another by now
  // it is looked at once for nothing.
  note_freed(span);
  return twice;
}

void put_back(SpanRef span, unsigned class_index, unsigned word, uint64_t bits) noexcept {
  set_bits(span, class_index, word, bits);
}

void touch(SpanRef span, unsigned class_index, unsigned word, uint64_t bits) noexcept {
  std::atomic<uint16_t>& purged = span.state().purged_pages;
  if (purged.load(std::memory_order_relaxed) == 0) return;
  const size_t block_bytes = kClasses[class_index].block_bytes;
  const auto lowest = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
  const auto highest = word * 64 + 63 - static_cast<unsigned>(std::countl_zero(bits));
  const size_t first_page = lowest * block_bytes >> kPageShift;
  const size_t last_page = ((highest + 1) * block_bytes - 1) >> kPageShift;
  const uint32_t pages = (2U << last_page) - (1U << first_page);
  purged.fetch_and(static_cast<uint16_t>(~pages), std::memory_order_relaxed);
}

bool take_whole(SpanRef span, unsigned class_index) noexcept {
  const ClassInfo& info = kClasses[class_index];
  unsigned taken = 0;
  for (; taken < info.words; ++taken) {
    uint64_t full = full_word(info, taken);
    if (!span.word(taken).compare_exchange_strong(full, 0, std::memory_order_acq_rel)) break;
  }
  // With a bit in hand the class is certain; where it is another one, a word may look full and be half of the span.
  if (taken == info.words && span.class_byte().load(std::memory_order_relaxed) == class_index)
    return true;
  const unsigned now = span.class_byte().load(std::memory_order_relaxed);
  for (unsigned i = 0; i < taken; ++i) return_blocks(span, now, i, full_word(info, i));
  return false;
}

unsigned count_free(SpanRef span, unsigned class_index) noexcept {
  unsigned free = 0;
  for (unsigned i = 0; i < kClasses[class_index].words; ++i) {
    free += static_cast<unsigned>(std::popcount(span.word(i).load(std::memory_order_relaxed)));
  }
  return free;
}

int64_t count(unsigned class_index) noexcept {
  return counts[class_index].load(std::memory_order_relaxed);
}

void forget(SpanRef span, unsigned class_index) noexcept {
  counts[class_index].fetch_sub(1, std::memory_order_relaxed);
  span.class_byte().store(kNoClass, std::memory_order_relaxed);
}

}  // namespace memlimit::heap::spans
