/* See purge.h. */
#include "heap/purge.h"

#include <algorithm>
#include <bit>

#include <cerrno>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "heap/hints.h"
#include "heap/huge.h"
#include "heap/page_source.h"
#include "heap/region.h"
#include "heap/span.h"
#include "system/os.h"

namespace memlimit::heap {
namespace {

constexpr uint64_t bit(unsigned index) noexcept { return uint64_t{1} << index; }

class Purger {
 public:
  explicit Purger(unsigned most_calls, unsigned least_pages = 1) noexcept
      : most_calls_(most_calls), least_pages_(least_pages) {}

  /* Bytes that went back by another way. */
  void note(size_t bytes) noexcept { bytes_ += bytes; }

  bool may_go_on() const noexcept { return calls_ < most_calls_ && !refused_; }
  /* What was refused once is refused again: the next call would be at the same pages. */
  PurgeResult result(bool complete) const noexcept {
    return {bytes_, calls_, complete || refused_};
  }

  /** Purges the free dirty slices of a region among `candidates`, run by run. */
  void free_slices(Region& region, uint64_t candidates) noexcept;

  /** Purges the pages of a span that only free blocks cover; a span that is wholly free becomes a free slice. */
  void span(SpanRef span) noexcept;

 private:
  /* The raw call: madvise() is interposed. It may be refused (a sandbox, no memory for the kernel's own records): then
   * the pages are what they were. */
  bool drop(char* address, size_t bytes) noexcept {
    os::ErrnoGuard guard;
    ++calls_;
    refused_ = syscall(SYS_madvise, address, bytes, MADV_DONTNEED) != 0;
    if (!refused_) bytes_ += bytes;
    return !refused_;
  }

  /* Returns those that were dropped. */
  uint32_t pages(SpanRef span, uint32_t pages) noexcept {
    uint32_t dropped = 0;
    while (pages != 0 && !refused_) {
      const auto first = static_cast<unsigned>(std::countr_zero(pages));
      const auto count = static_cast<unsigned>(std::countr_one(pages >> first));
      const uint32_t run = ((1U << count) - 1) << first;
      if (drop(span.base() + first * kPageBytes, count * kPageBytes)) dropped |= run;
      pages &= ~run;
    }
    return dropped;
  }

  /* Whether there are pages to drop. */
  bool is_worth_taking(SpanRef span, unsigned class_index) const noexcept;

  /* Of our pages in one of the kernel's: 4 or 16 where arm64's are larger. */
  const unsigned group_ = static_cast<unsigned>(static_cast<size_t>(os::page_bytes()) / kPageBytes);
  const unsigned most_calls_, least_pages_;
  unsigned calls_ = 0;
  size_t bytes_ = 0;
  bool refused_ = false;
};

void Purger::free_slices(Region& region, uint64_t candidates) noexcept {
  while (may_go_on()) {
    uint64_t free = region.free_slices.load() & candidates;
    const uint64_t due = free & region.dirty.load(std::memory_order_relaxed);
    if (due == 0) return;
    const auto first = static_cast<unsigned>(std::countr_zero(due));
    const auto count = static_cast<unsigned>(std::countr_one(due >> first));
    const SliceRun run{&region, first, count, true};
    candidates &= ~run.mask();
    if (!regions::take_run(region, first, count)) continue;
    // Before: who gets the slices afterwards sets the bits again.
    region.dirty.fetch_and(~run.mask(), std::memory_order_relaxed);
    if (!drop(run.address(), count * kSliceBytes)) {
      region.dirty.fetch_or(run.mask(), std::memory_order_relaxed);
    }
    regions::return_slices(region, first, count);
  }
}

/* Whether all blocks that lie on a page are among the bits of `taken`. */
bool only_free_blocks(const uint64_t* taken, const ClassInfo& info, unsigned page) noexcept {
  const auto first = static_cast<unsigned>(page * kPageBytes / info.block_bytes);
  auto last = static_cast<unsigned>(((page + 1) * kPageBytes - 1) / info.block_bytes);
  if (first >= info.blocks) return true;
  if (last >= info.blocks) last = info.blocks - 1U;
  for (unsigned word = first / 64; word <= last / 64; ++word) {
    uint64_t needed = ~uint64_t{0};
    if (word == first / 64) needed &= ~uint64_t{0} << first % 64;
    if (word == last / 64) needed &= ~uint64_t{0} >> (63 - last % 64);
    if ((taken[word] & needed) != needed) return false;
  }
  return true;
}

/* Of a set of pages those that lie in runs of at least so many. */
constexpr uint32_t long_runs(uint32_t pages, unsigned least) noexcept {
  uint32_t begins = pages;
  for (unsigned i = 1; i < least; ++i) begins &= pages >> i;
  uint32_t kept = begins;
  for (unsigned i = 1; i < least; ++i) kept |= begins << i;
  return kept;
}

uint32_t free_pages_of(const uint64_t* bits, const ClassInfo& info) noexcept {
  uint32_t free_pages = 0;
  for (unsigned i = 0; i < kPagesPerSlice; ++i) {
    if (only_free_blocks(bits, info, i)) free_pages |= 1U << i;
  }
  return free_pages;
}

bool Purger::is_worth_taking(SpanRef span, unsigned class_index) const noexcept {
  std::atomic<uint8_t>& freed = span.state().freed;
  if (freed.load(std::memory_order_relaxed) == 0) return false;
  // Before the words are read, and sequentially consistent: who returns a block afterwards sets it again, or its bit is
  // seen.
  freed.exchange(0);
  const ClassInfo& info = kClasses[class_index];
  uint64_t seen[64] = {};
  for (unsigned i = 0; i < info.words; ++i) seen[i] = span.word(i).load();
  const uint32_t purged = span.state().purged_pages.load(std::memory_order_relaxed);
  const uint32_t due = due_pages(free_pages_of(seen, info), purged, group_);
  if (long_runs(due, least_pages_) != 0) return true;
  // Another time, for a purge that is content with less.
  if (due != 0) {
    freed.store(1, std::memory_order_relaxed);
    hints::set(kFreedSpans, span.region->id);
  }
  return false;
}

void Purger::span(SpanRef span) noexcept {
  const unsigned guess = span.class_byte().load(std::memory_order_relaxed);
  if (guess == kNoClass || guess > kSpanClasses) return;
  // Most spans are looked at in vain: nothing is taken from who allocates meanwhile.
  if (!is_worth_taking(span, guess)) return;
  uint64_t taken[64] = {};
  uint64_t any = 0;
  for (unsigned i = 0; i < kClasses[guess].words; ++i) {
    // Acquire: what the blocks' last owners wrote comes before the kernel drops it.
    taken[i] = span.word(i).exchange(0, std::memory_order_acq_rel);
    any |= taken[i];
  }
  if (any == 0) return;
  // With a block in hand the class is certain.
  const unsigned class_index = span.class_byte().load(std::memory_order_relaxed);
  const ClassInfo& info = kClasses[class_index];
  if (class_index == guess) {
    bool whole = true;
    for (unsigned i = 0; i < info.words; ++i)
      whole = whole && taken[i] == spans::full_word(info, i);
    const uint32_t purged = span.state().purged_pages.load(std::memory_order_relaxed);
    const uint32_t due = due_pages(free_pages_of(taken, info), purged, group_);
    const uint32_t wanted = whole ? due : long_runs(due, least_pages_);
    const uint32_t dropped = pages(span, wanted);
    if (whole) {
      spans::forget(span, class_index);
      if (dropped == due) {
        span.region->dirty.fetch_and(~bit(span.slice), std::memory_order_relaxed);
      }
      regions::return_slices(*span.region, span.slice, 1);
      return;
    }
    // Nobody else sets bits; who clears some has blocks of other pages.
    span.state().purged_pages.fetch_or(static_cast<uint16_t>(dropped), std::memory_order_relaxed);
  }
  for (unsigned i = 0; i < kClasses[guess].words; ++i) {
    if (taken[i] == 0) continue;
    if (class_index == guess) {
      spans::put_back(span, class_index, i, taken[i]);
    } else {
      // Not looked at, and the mark is gone: as if they were freed now.
      spans::return_blocks(span, class_index, i, taken[i]);
    }
  }
}

/* Purges the spans of a region. */
void purge_spans(Purger& purger, Region& region) noexcept {
  if (region.begin() == nullptr) return;
  for (unsigned i = 0; i < kSlicesPerRegion && purger.may_go_on(); ++i) purger.span({&region, i});
}

/* Calls `look` for the regions that have the hint, from one on, until the purger must not go on. What is found there
 * sets the hint again; the region where the purger stops keeps it, and its id is returned. */
template <typename Look>
uint32_t for_each_hinted(Purger& purger, unsigned kind, uint32_t id, Look look) noexcept {
  for (id = hints::find(kind, id); id != kNoRegion; id = hints::find(kind, id + 1)) {
    hints::clear(kind, id);
    look(*hints::region(id));
    if (purger.may_go_on()) continue;
    hints::set(kind, id);
    return id;
  }
  return kNoRegion;
}

}  // namespace

PurgeResult purge(unsigned most_calls, size_t least_run_bytes, uint32_t* next_region) noexcept {
  const size_t least_pages = std::clamp<size_t>(least_run_bytes / kPageBytes, 1, kPagesPerSlice);
  Purger purger(most_calls, static_cast<unsigned>(least_pages));
  purger.note(huge::drop_kept(false));
  const auto slices = [&](Region& region) { purger.free_slices(region, ~uint64_t{0}); };
  const auto spans = [&](Region& region) { purge_spans(purger, region); };
  if (for_each_hinted(purger, kDirtySlices, 0, slices) != kNoRegion) return purger.result(false);
  const uint32_t from = next_region != nullptr ? *next_region : 0;
  const uint32_t stopped = for_each_hinted(purger, kFreedSpans, from, spans);
  if (next_region != nullptr) *next_region = stopped == kNoRegion ? 0 : stopped;
  if (stopped != kNoRegion) return purger.result(false);
  regions::release_free_chunks();
  return purger.result(true);
}

namespace decay {
namespace {

constexpr unsigned kMostCalls = 256;

constinit std::atomic<int64_t> delay_ms{kDefaultDelayMs};
constinit std::atomic<int64_t> last_ms{0};

/* Spans that were empty the last time, and are, become free slices. */
void retire_empty_spans(Region& region) noexcept {
  const uint64_t empty = region.empty_spans.load();
  for (uint64_t due = region.aged_spans.exchange(empty, std::memory_order_relaxed) & empty;
       due != 0; due &= due - 1) {
    const SpanRef span{&region, static_cast<unsigned>(std::countr_zero(due))};
    region.empty_spans.fetch_and(~bit(span.slice));
    const unsigned class_index = span.class_byte().load(std::memory_order_relaxed);
    if (class_index == kNoClass || class_index > kSpanClasses || span.state().leased.load() != 0)
      continue;
    if (!spans::take_whole(span, class_index)) continue;
    spans::forget(span, class_index);
    regions::return_slices(region, span.slice, 1);
  }
}

}  // namespace

void set_delay_ms(int64_t ms) noexcept { delay_ms.store(ms, std::memory_order_relaxed); }

void note_free_slices() noexcept {
  const int64_t delay = delay_ms.load(std::memory_order_relaxed);
  if (delay == 0 || heap_ops().now_ms == nullptr) return;
  const int64_t now = heap_ops().now_ms();
  int64_t last = last_ms.load(std::memory_order_relaxed);
  if (now - last < delay) return;
  // One thread does it; a child of fork whose parent was at it comes by after the next delay.
  if (!last_ms.compare_exchange_strong(last, now, std::memory_order_relaxed)) return;
  huge::drop_kept(true);
  Purger purger(kMostCalls);
  for (uint32_t id = hints::find(kEmptySpans); id != kNoRegion;
       id = hints::find(kEmptySpans, id + 1)) {
    retire_empty_spans(*hints::region(id));
  }
  for_each_hinted(purger, kDirtySlices, 0, [&](Region& region) {
    const uint64_t idle = region.free_slices.load() & region.dirty.load(std::memory_order_relaxed);
    const uint64_t aged = region.aged.exchange(idle, std::memory_order_relaxed);
    if ((aged & idle) != 0) purger.free_slices(region, aged);
    if ((region.free_slices.load() & region.dirty.load()) != 0) hints::set(kDirtySlices, region.id);
  });
}

}  // namespace decay
}  // namespace memlimit::heap
