/* A cache's life: how a thread takes one, gives it back, and what the child of a fork gives up. See thread_cache.h. */
#include "heap/thread_cache.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

#include "heap/page_source.h"
#include "heap/tagged_stack.h"
#include "heap/transfer.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::heap {

constinit ThreadCache no_cache{};
MEMLIMIT_TLS ThreadCache* active_cache = &no_cache;
MEMLIMIT_TLS CacheOwner cache_owner{nullptr, CachePhase::kFresh, 0, false};

uint64_t ThreadCache::cached_bytes() const noexcept {
  uint64_t bytes = 0;
  for (unsigned i = 1; i <= kSmallClasses; ++i)
    bytes += uint64_t{stacked(i)} * kClasses[i].block_bytes;
  return bytes;
}

uint64_t ThreadCache::own_cached_bytes() const noexcept {
  uint64_t weighed_tops = 0;
  for (unsigned word = 0; word < std::size(with_room); ++word) {
    for (uint64_t rest = with_room[word]; rest != 0; rest &= rest - 1) {
      const unsigned i = word * 64 + static_cast<unsigned>(std::countr_zero(rest));
      weighed_tops += tops[i].load(std::memory_order_relaxed) * kClasses[i].block_bytes;
    }
  }
  return (weighed_tops - weighed_floors) / sizeof(void*);
}

uint64_t ThreadCache::allocated_bytes() const noexcept {
  uint64_t bytes = large_allocated_bytes.load(std::memory_order_acquire);
  for (unsigned i = 1; i <= kSmallClasses; ++i) bytes += handed_out(i) * kClasses[i].block_bytes;
  return bytes;
}

uint64_t ThreadCache::handed_out(unsigned class_index) const noexcept {
  uint64_t base = pop_bases[class_index].load(std::memory_order_acquire);
  for (;;) {
    if ((base & 1) != 0) return base >> 1;
    // Acquire: what sampling::set_countdown() stored after changing the base is seen with that change.
    const uint64_t count = pops[class_index].load(std::memory_order_acquire);
    const uint64_t again = pop_bases[class_index].load(std::memory_order_acquire);
    if (MEMLIMIT_LIKELY(again == base)) return (base >> 1) + count;
    base = again;
  }
}

uint64_t ThreadCache::far_place(unsigned class_index) noexcept {
  uint64_t begin = far_begin.load(std::memory_order_relaxed);
  if (MEMLIMIT_UNLIKELY(begin == 0)) {
    void* const places = os::map_pages(kStackPlaces.far_bytes);
    if (places == nullptr) return 0;
    begin = reinterpret_cast<uintptr_t>(places) - reinterpret_cast<uintptr_t>(entries);
    far_begin.store(begin, std::memory_order_relaxed);
    // Before any top that lies there, which the fast path stores without an order.
    std::atomic_thread_fence(std::memory_order_release);
  }
  return begin + kStackPlaces.far[class_index];
}

namespace thread_caches {
namespace {

constinit std::atomic<ThreadCache*> all_caches{nullptr};
constinit TaggedStack<ThreadCache> free_caches;
constinit std::atomic<uint32_t> cache_bytes{kCacheBytes};
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> owned{0}; /* caches that a thread has */
constinit std::atomic<int64_t> lost[kSmallClasses + 1]; /* blocks, as ThreadCache::lost_bytes */

/* In the child of a fork, of the thread that forked and has another number here: its cache is not written to for that. */
constinit MEMLIMIT_FORK_DATA std::atomic<const ThreadCache*> forked_with{nullptr};

/* No blocks, and no room yet: a stack grows when it is used. */
void empty_stacks(ThreadCache& cache) noexcept {
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    cache.tops[i].store(kStackPlaces.near[i], std::memory_order_relaxed);
    cache.ends[i] = kStackPlaces.near[i];
    cache.leases[i].store(0, std::memory_order_relaxed);
    cache.lease_words[i] = 0;
    cache.flushed[i] = false;
  }
  for (uint64_t& word : cache.with_room) word = 0;
  cache.weighed_floors = 0;
  cache.bound_bytes = share_bytes();
  cache.budget_bytes = cache.bound_bytes;
}

ThreadCache* make() noexcept {
  auto* const cache = static_cast<ThreadCache*>(os::map_pages(kCacheMapBytes));
  if (cache == nullptr) return nullptr;
  empty_stacks(*cache);
  ThreadCache* first = all_caches.load(std::memory_order_relaxed);
  do {
    cache->next = first;
    // Release: whoever walks the list sees the cache's next.
  } while (!all_caches.compare_exchange_weak(first, cache, std::memory_order_release,
                                             std::memory_order_relaxed));
  return cache;
}

/* A fresh thread gets a cache; where that fails it does without for ever. */
MEMLIMIT_COLD ThreadCache* adopt() noexcept {
  ThreadCache* cache = free_caches.pop();
  if (cache == nullptr) cache = make();
  if (cache == nullptr) return nullptr;
  owned.fetch_add(1, std::memory_order_relaxed);
  transfer::set_bound(*cache, share_bytes());
  cache->former_bytes.store(cache->held_bytes(), std::memory_order_relaxed);
  cache->former_allocated_bytes = cache->allocated_bytes();
  cache->owner_tid.store(os::thread_id(), std::memory_order_relaxed);
  cache_owner.cache = cache;
  cache_owner.phase = CachePhase::kLive;
  // It may allocate: then it is served without the cache, which is held.
  if (!heap_ops().arm_thread_exit()) {
    // Nobody would give it back. One such thread, the first, may keep it.
    static constinit std::atomic<bool> first_taken{false};
    if (first_taken.exchange(true, std::memory_order_relaxed)) {
      thread_exit();
      return nullptr;
    }
  }
  return cache;
}

}  // namespace

constinit ThreadCache shared{};

News take_news(ThreadCache& cache) noexcept {
  const uint64_t taken = cache.taken_bytes.load(std::memory_order_relaxed);
  const uint64_t returned = cache.returned_bytes.load(std::memory_order_relaxed);
  const uint64_t stacked = cache.own_cached_bytes();
  const News news{taken - std::exchange(cache.told_taken, taken),
                  returned - std::exchange(cache.told_returned, returned),
                  static_cast<int64_t>(stacked - std::exchange(cache.told_stacked, stacked))};
  return news;
}

int64_t own_live_bytes() noexcept {
  const ThreadCache* const cache = cache_owner.cache;
  if (cache == nullptr) return 0;
  return static_cast<int64_t>(cache->taken_bytes.load(std::memory_order_relaxed) -
                              cache->returned_bytes.load(std::memory_order_relaxed) -
                              cache->own_cached_bytes());
}

uint32_t count() noexcept { return owned.load(std::memory_order_relaxed); }

void set_cache_bytes(uint32_t bytes) noexcept {
  // Asked at every look: no write that changes nothing.
  if (cache_bytes.load(std::memory_order_relaxed) == bytes) return;
  cache_bytes.store(bytes, std::memory_order_relaxed);
}

uint32_t share_bytes() noexcept {
  return share_of(cache_bytes.load(std::memory_order_relaxed),
                  owned.load(std::memory_order_relaxed));
}

uint32_t next_bound(uint32_t bound_bytes) noexcept {
  const uint32_t share = share_bytes();
  const uint32_t bytes = cache_bytes.load(std::memory_order_relaxed);
  return is_to_follow(bytes, share, bound_bytes) ? share : bound_bytes;
}

ThreadCache* all() noexcept { return all_caches.load(std::memory_order_acquire); }

void thread_exit() noexcept {
  if (cache_owner.phase != CachePhase::kLive) {
    cache_owner.phase = CachePhase::kTornDown;
    return;
  }
  CacheHold hold;
  ThreadCache& cache = *cache_owner.cache;
  transfer::flush_all(cache);
  heap_ops().publish(take_news(cache));
  cache_owner.phase = CachePhase::kTornDown;
  cache_owner.cache = nullptr;
  empty_stacks(cache);
  cache.owner_tid.store(0, std::memory_order_relaxed);
  // Last: a fork that comes before looks for it.
  owned.fetch_sub(1, std::memory_order_relaxed);
  if (forked_with.load(std::memory_order_relaxed) == &cache) {
    forked_with.store(nullptr, std::memory_order_relaxed);
  }
  free_caches.push(&cache);
}

int32_t owner_tid(const ThreadCache& cache) noexcept {
  const int32_t tid = cache.owner_tid.load(std::memory_order_relaxed);
  // A thread that forks is the first of its child, and has the process's number.
  const bool forked = tid != 0 && forked_with.load(std::memory_order_relaxed) == &cache;
  return forked ? os::process_id() : tid;
}

/* In the child of fork: those of the threads that are not here. Whether there are any. */
MEMLIMIT_COLD static bool give_up_others() noexcept {
  bool had_others = false;
  for (ThreadCache* cache = all(); cache != nullptr; cache = cache->next) {
    if (cache == cache_owner.cache || cache->owner_tid.load(std::memory_order_relaxed) == 0)
      continue;
    // Its blocks are not taken over: the pages of the stack and of the bitmaps were copied at different moments, while
    // the owner went on. A block may be in the stack and free, or in use.
    had_others = true;
    cache->lost_bytes.fetch_add(cache->cached_bytes(), std::memory_order_relaxed);
    for (unsigned i = 1; i <= kSmallClasses; ++i) {
      lost[i].fetch_add(cache->stacked(i), std::memory_order_relaxed);
      transfer::give_up_lease(*cache, i);
    }
    empty_stacks(*cache);
    take_news(*cache);
    cache->owner_tid.store(0, std::memory_order_relaxed);
    free_caches.push(cache);
  }
  // Sums are taken anew then.
  if (had_others && cache_owner.cache != nullptr) take_news(*cache_owner.cache);
  return had_others;
}

MEMLIMIT_CHILD_CODE bool reset_after_fork() noexcept {
  const uint32_t own = cache_owner.cache != nullptr ? 1 : 0;
  forked_with.store(cache_owner.cache, std::memory_order_relaxed);
  // No cache's page is touched for nothing.
  if (owned.load(std::memory_order_relaxed) == own) return false;
  owned.store(own, std::memory_order_relaxed);
  return give_up_others();
}

int64_t lost_blocks(unsigned class_index) noexcept {
  return lost[class_index].load(std::memory_order_relaxed);
}

}  // namespace thread_caches

ThreadCache* CacheHold::cache() noexcept {
  if (cache_owner.held != 1) return nullptr;
  if (MEMLIMIT_LIKELY(cache_owner.phase == CachePhase::kLive)) return cache_owner.cache;
  return cache_owner.phase == CachePhase::kFresh ? thread_caches::adopt() : nullptr;
}

}  // namespace memlimit::heap
