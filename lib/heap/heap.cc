/* See heap.h. */
#include "heap/heap.h"

#include <algorithm>

#include "heap/large.h"
#include "heap/misuse.h"
#include "heap/purge.h"
#include "heap/sampling.h"
#include "heap/transfer.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::heap {
namespace {

constexpr uint64_t kFirstQuantumBytes = 64 << 10;

constinit std::atomic<uint64_t> quantum_bytes{kFirstQuantumBytes};

/* The owner's counters are stored to by it alone; the shared ones are added to by all. */
void add(ThreadCache* cache, std::atomic<uint64_t> ThreadCache::*counter, uint64_t bytes) noexcept {
  if (cache != nullptr) {
    std::atomic<uint64_t>& own = cache->*counter;
    own.store(own.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  } else {
    (thread_caches::shared.*counter).fetch_add(bytes, std::memory_order_relaxed);
  }
}

/* Ends a slow path: after the hold, since a look may allocate, free and purge. */
class Look {
 public:
  /* What the call took or returned, for a thread without a cache. */
  void note(ThreadCache* cache, uint64_t taken_bytes, uint64_t returned_bytes) noexcept {
    if (cache == nullptr) {
      news_ = {taken_bytes, returned_bytes, 0};
      due_ = true;
      return;
    }
    const uint64_t taken = cache->taken_bytes.load(std::memory_order_relaxed) - cache->told_taken;
    const uint64_t returned =
        cache->returned_bytes.load(std::memory_order_relaxed) - cache->told_returned;
    const uint64_t quantum = quantum_bytes.load(std::memory_order_relaxed);
    if (MEMLIMIT_LIKELY(taken < quantum && returned < quantum && !cache_owner.looks_next_time))
      return;
    cache_owner.looks_next_time = false;
    const uint32_t bound_bytes = thread_caches::next_bound(cache->bound_bytes);
    if (bound_bytes != cache->bound_bytes) transfer::set_bound(*cache, bound_bytes);
    news_ = thread_caches::take_news(*cache);
    due_ = true;
  }

  /* allocated_bytes: the block's; 0 in a call that frees. */
  void take(uint64_t allocated_bytes) noexcept {
    if (MEMLIMIT_LIKELY(!due_)) return;
    heap_ops().publish(news_);
    // Not in what interrupts a slow path: the thread is in the middle of it.
    if (cache_owner.held == 0) heap_ops().look(allocated_bytes);
  }

 private:
  News news_{};
  bool due_ = false;
};

MEMLIMIT_COLD void* no_memory() noexcept {
  heap_ops().out_of_memory();
  return nullptr;
}

/* There is no memory: what the thread keeps and what is free elsewhere may yet make room, as slices or address space. */
MEMLIMIT_COLD void make_room(ThreadCache* cache) noexcept {
  if (cache != nullptr) transfer::flush_all(*cache);
  purge(UINT32_MAX);
}

void* allocate_large(size_t bytes, size_t alignment, bool* zero) noexcept {
  Look look;
  void* block = nullptr;
  size_t block_bytes = 0;
  {
    CacheHold hold;
    ThreadCache* const cache = hold.cache();
    block = large::allocate(bytes, alignment, &block_bytes, zero);
    if (MEMLIMIT_UNLIKELY(block == nullptr)) {
      make_room(cache);
      block = large::allocate(bytes, alignment, &block_bytes, zero);
      if (block == nullptr) return no_memory();
    }
    add(cache, &ThreadCache::taken_bytes, block_bytes);
    add(cache, &ThreadCache::large_allocated_bytes, block_bytes);
    if (cache != nullptr) sampling::consider(*cache, block, block_bytes);
    look.note(cache, block_bytes, 0);
  }
  look.take(block_bytes);
  return block;
}

/* A block for a thread that holds its cache, or has none. */
void* take_block(ThreadCache* cache, unsigned class_index) noexcept {
  const uint64_t block_bytes = kClasses[class_index].block_bytes;
  void* block = nullptr;
  if (cache != nullptr) {
    sampling::follow_interval(*cache);
    const uint64_t top = cache->tops[class_index].load(std::memory_order_relaxed);
    // Not empty: it came here to look.
    if (cache->stacked(class_index) > 0) {
      cache->tops[class_index].store(top - sizeof(void*), std::memory_order_relaxed);
      block = cache->slot(top);
    } else {
      block = transfer::refill(*cache, class_index);
    }
    if (block != nullptr) {
      const bool due = detail::count_one(cache->pops[class_index]);
      return due ? sampling::take_twin(*cache, class_index, block) : block;
    }
  }
  // The stack has no room, or there is no memory; or there is no cache.
  block = transfer::take_one(class_index);
  if (block == nullptr) return nullptr;
  add(cache, &ThreadCache::taken_bytes, block_bytes);
  add(cache, &ThreadCache::large_allocated_bytes, block_bytes);
  return block;
}

void release_small(void* block, unsigned class_index) noexcept {
  Look look;
  {
    CacheHold hold;
    ThreadCache* const cache = hold.cache();
    const uint64_t block_bytes = kClasses[class_index].block_bytes;
    if (cache == nullptr) {
      transfer::return_one(class_index, block);
      add(nullptr, &ThreadCache::returned_bytes, block_bytes);
    } else {
      transfer::push(*cache, class_index, block);
    }
    look.note(cache, 0, block_bytes);
  }
  look.take(0);
}

void release_sampled(void* block, unsigned class_index) noexcept {
  Look look;
  {
    CacheHold hold;
    ThreadCache* const cache = hold.cache();
    const uint64_t block_bytes = kClasses[class_index].block_bytes;
    // Before: who gets the block next may be sampled with it.
    sampling::forget(block);
    transfer::return_one(class_index, block);
    add(cache, &ThreadCache::returned_bytes, block_bytes);
    look.note(cache, 0, block_bytes);
  }
  look.take(0);
}

void release_large(void* block) noexcept {
  Look look;
  {
    CacheHold hold;
    ThreadCache* const cache = hold.cache();
    sampling::forget(block);
    const size_t block_bytes = large::release(block);
    add(cache, &ThreadCache::returned_bytes, block_bytes);
    look.note(cache, 0, block_bytes);
  }
  look.take(0);
}

void* zeroed(void* block, size_t bytes) noexcept {
  return block == nullptr ? nullptr : memset(block, 0, bytes);
}

}  // namespace

namespace slow {

void* allocate_larger(size_t bytes) noexcept {
  if (MEMLIMIT_LIKELY(bytes <= kLargestSmallBytes)) return detail::pop<Leave>(class_of(bytes));
  bool zero = false;
  return allocate_large(bytes, kMinimumAlignment, &zero);
}

void* allocate_larger_zeroed(size_t bytes) noexcept {
  if (MEMLIMIT_LIKELY(bytes <= kLargestSmallBytes))
    return zeroed(detail::pop<Leave>(class_of(bytes)), bytes);
  bool zero = false;
  void* const block = allocate_large(bytes, kMinimumAlignment, &zero);
  return zero ? block : zeroed(block, bytes);
}

void* allocate_larger_aligned(size_t alignment, size_t bytes) noexcept {
  if (bytes <= kLargestSmallBytes && alignment <= kLargestSmallBytes) {
    // The request rounded up to the alignment may be beyond the classes, but only just: at most twice that.
    const size_t rounded = std::max((bytes + alignment - 1) & ~(alignment - 1), alignment);
    if (rounded <= kLargestSmallBytes) return detail::pop<Leave>(aligned_class(bytes, alignment));
  }
  bool zero = false;
  return allocate_large(bytes, alignment, &zero);
}

void* allocate_from_spans(size_t index) noexcept {
  const auto class_index = static_cast<unsigned>(index);
  Look look;
  void* block = nullptr;
  {
    CacheHold hold;
    ThreadCache* const cache = hold.cache();
    block = take_block(cache, class_index);
    if (MEMLIMIT_UNLIKELY(block == nullptr)) {
      make_room(cache);
      block = take_block(cache, class_index);
      if (block == nullptr) return no_memory();
    }
    look.note(cache, kClasses[class_index].block_bytes, 0);
  }
  look.take(kClasses[class_index].block_bytes);
  return block;
}

void release(void* block) noexcept {
  if (block == nullptr) return;
  const unsigned class_index = class_at(block);
  if (class_index == kNoClass) {
    if (region_at(block) != nullptr) report_misuse(Misuse::kInvalidPointer, block, 0);
    heap_ops().foreign_free(block);
  } else if (class_index <= kSmallClasses) {
    release_small(block, class_index);
  } else if (class_index <= kSpanClasses) {
    release_sampled(block, class_index);
  } else {
    release_large(block);
  }
}

void* sample(void* block, size_t class_index) noexcept {
  CacheHold hold;
  ThreadCache* const cache = hold.cache();
  // A signal handler may have come in between, at the end of its thread.
  if (MEMLIMIT_UNLIKELY(cache == nullptr)) return block;
  return sampling::take_twin(*cache, static_cast<unsigned>(class_index), block);
}

void report_double_free(void* block) noexcept {
  report_misuse(Misuse::kDoubleFree, block, kClasses[class_at(block)].block_bytes);
}

size_t usable_bytes(const void* block) noexcept {
  if (block == nullptr) return 0;
  if (class_at(block) != kNoClass) return large::usable_bytes(block);
  // Nobody's, but in a region: whoever is asked next may take all of it for a block of its own.
  if (region_at(block) != nullptr) return 0;
  return heap_ops().foreign_usable(block);
}

}  // namespace slow

size_t good_size(size_t bytes) noexcept {
  return bytes <= kLargestSmallBytes ? kClasses[class_of(bytes)].block_bytes
                                     : large::good_size(bytes);
}

void* resize(void* block, size_t bytes) noexcept {
  const unsigned class_index = class_at(block);
  if (class_index != kLargeClass && class_index != kHugeClass) {
    // Nobody's has no bytes, and serves for nothing.
    return still_serves(good_size(bytes), kClasses[class_index].block_bytes) ? block : nullptr;
  }
  Look look;
  void* resized = nullptr;
  size_t more = 0;
  {
    CacheHold hold;
    ThreadCache* const cache = hold.cache();
    size_t old_bytes = 0, new_bytes = 0;
    // Before: where it is now, another block may be at once. What it becomes is picked, or not, as a new block is.
    const bool was_sampled = sampling::forget(block);
    resized = large::resize(block, bytes, &old_bytes, &new_bytes);
    if (resized == nullptr) {
      if (was_sampled) sampling::record(block, large::usable_bytes(block));
      return nullptr;
    }
    if (cache != nullptr) sampling::consider(*cache, resized, new_bytes);
    // What a block grows by counts as allocated: what a copy would add, less what it would free.
    more = new_bytes > old_bytes ? new_bytes - old_bytes : 0;
    const size_t less = new_bytes > old_bytes ? 0 : old_bytes - new_bytes;
    add(cache, &ThreadCache::taken_bytes, more);
    add(cache, &ThreadCache::large_allocated_bytes, more);
    add(cache, &ThreadCache::returned_bytes, less);
    look.note(cache, more, less);
  }
  look.take(more);
  return resized;
}

void set_quantum_bytes(uint64_t bytes) noexcept {
  quantum_bytes.store(std::max<uint64_t>(bytes, 1), std::memory_order_relaxed);
}

void set_sample_interval_bytes(uint64_t bytes) noexcept { sampling::set_interval_bytes(bytes); }

void look_at_next_allocation() noexcept {
  cache_owner.looks_next_time = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  active_cache = &no_cache;
}

void flush_own_cache() noexcept {
  CacheHold hold;
  ThreadCache* const cache = hold.cache();
  if (cache == nullptr) return;
  transfer::flush_all(*cache);
  heap_ops().publish(thread_caches::take_news(*cache));
}

void publish_own() noexcept {
  CacheHold hold;
  if (ThreadCache* const cache = hold.cache()) heap_ops().publish(thread_caches::take_news(*cache));
}

void check_own_cache() noexcept {
  CacheHold hold;
  if (cache_owner.phase != CachePhase::kLive) return;
  if (ThreadCache* const cache = hold.cache()) report_stacked_twice(*cache);
}

void thread_exit() noexcept { thread_caches::thread_exit(); }

MEMLIMIT_CHILD_CODE bool reset_after_fork() noexcept {
  const bool had_others = thread_caches::reset_after_fork();
  regions::reset_after_fork(had_others);
  return had_others;
}

}  // namespace memlimit::heap
