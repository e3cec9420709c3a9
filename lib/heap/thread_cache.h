/* A thread's cache: for each class a stack of addresses of free blocks that are the thread's.
 *
 * malloc pops, free pushes; nothing else happens there. A stack that is empty is refilled, one that is full gives its
 * oldest half back (transfer.h). Classes that have no stack (none, large, huge) are full and empty at once, so all that
 * is not usual leaves the fast path by the same two compares. So does everything of a thread that has no cache, or whose
 * cache must not be touched now: `active` is then one that has no room in any class and no block.
 *
 * Caches lie outside of the thread's own storage and are never unmapped; one given to a new thread goes on counting from
 * where its last owner stopped. So figures are read without a lock, and a thread that vanishes leaves nothing dangling.
 *
 * Threads: a cache is written by its owner alone; everybody reads the atomics. Context: `active` points to no_cache
 * while the owner changes the cache elsewhere than on the fast path, so a signal handler that allocates meanwhile is
 * served without it. On the fast path itself a handler's call may come between two instructions that belong together:
 * allocating in a handler that interrupts malloc or free is undefined there, as POSIX has it. In pop() that is between
 * the load of the top and its store: a handler that allocates gets the same block. In release() it is from the load of
 * the top to its store, in whatever order slot and top are stored: a handler's free() writes the same slot, or its
 * malloc() reads one that is not filled in yet. What is atomic for a signal without a lock prefix is one instruction,
 * and neither is one. A restartable sequence (rseq(2)) would cost two instructions a call: its begin and its end.
 */
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "heap/page_source.h"
#include "heap/size_classes.h"
#include "heap/span.h"
#include "system/attributes.h"

namespace memlimit::heap {

/* Where a class's stacks lie, in bytes: each begins with a null, which tells that it is empty. All that a small program
 * needs is near, in the cache's own map: a few pages for all classes. A stack that outgrows its near place moves to its far
 * one, in a map that is made for the first: whoever locks memory pays for address space. */
struct StackPlaces {
  std::array<uint32_t, kBins> near, far;
  uint32_t near_bytes, far_bytes;
};

inline constexpr uint32_t kLeastNearBlocks = 8;
inline constexpr uint32_t kMostNearBlocks = 32;

constexpr uint32_t near_blocks(const ClassInfo& info) noexcept {
  return std::min<uint32_t>(info.capacity,
                            std::clamp<uint32_t>(info.eager, kLeastNearBlocks, kMostNearBlocks));
}

inline constexpr StackPlaces kStackPlaces = [] {
  constexpr uint32_t kEntryBytes = sizeof(void*);
  StackPlaces places{};
  uint32_t at = kEntryBytes;  // the first null is of those that have no stack
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    places.near[i] = at;
    at += (1 + near_blocks(kClasses[i])) * kEntryBytes;
  }
  places.near_bytes = at;
  at = 0;
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    places.far[i] = at;
    at += (1 + uint32_t{kClasses[i].capacity}) * kEntryBytes;
  }
  places.far_bytes = at;
  return places;
}();

/* What the stacks of a thread that is alone may hold when nobody has set another bound. With 2 MiB a program that frees some
 * 9 MB in a row, and takes as much again, passes each block through the spans: bench/suite/batches takes 0.68 of that time with
 * 16, and no program of bench/suite has a higher peak. Threads have less of it together the more they are, since what one keeps
 * no other gets: four have 4 MiB, eight 2. Each has its share of so much, and the least share, in any case. */
inline constexpr uint32_t kCacheBytes = 16 << 20;
inline constexpr uint32_t kSharedBytes = 2 << 20;
inline constexpr uint32_t kLeastShareBytes = 128 << 10;

struct alignas(4096) ThreadCache {
  /* Offsets from `entries`: of the newest block, or the null below all; and what the first may become. */
  std::atomic<uint64_t> tops[kBins];
  uint64_t ends[kBins]; /* the owner's alone, as further below */
  /* Counts up by one for each block that is handed out. At 0 the block is sampled: sampling.h. */
  std::atomic<uint64_t> pops[kSmallClasses + 1];
  /* Twice what has to be added to that for the blocks handed out ever; odd while its owner changes both: then half of it is
   * their number. */
  std::atomic<uint64_t> pop_bases[kSmallClasses + 1];
  /* The span that the class is refilled from: a Region and a slice below it; 0: none. */
  std::atomic<uint64_t> leases[kSmallClasses + 1];

  /* Bytes ever taken from spans, slices and huge blocks, and given back. */
  std::atomic<uint64_t> taken_bytes;
  std::atomic<uint64_t> returned_bytes;
  std::atomic<uint64_t> large_allocated_bytes; /* what `pops` does not count */
  std::atomic<uint64_t> lost_bytes;            /* in the stacks when a fork left the owner behind */
  std::atomic<int64_t> former_bytes;           /* taken less returned when the owner got it */
  std::atomic<int32_t> owner_tid;              /* 0: nobody's */

  /* The owner's alone. */
  uint64_t told_taken, told_returned; /* the two above when the owner last told (News) */
  uint64_t told_stacked;              /* bytes in the stacks then */
  uint64_t former_allocated_bytes;    /* when the owner got it */
  uint32_t budget_bytes;              /* what stacks may still grow by */
  uint32_t bound_bytes;               /* what they may hold together: the thread's share */
  uint64_t sample_random;             /* 0: not seeded */
  int64_t sample_left_bytes;          /* of blocks that `pops` does not count: to the next sample */
  uint32_t sample_turn;               /* which interval it counts for */
  uint8_t lease_words[kSmallClasses + 1]; /* which word of the leased span comes next */
  uint8_t waits[kSmallClasses + 1];       /* how often the class wanted to grow and could not */
  /* The last time that a stack was not enough it was full, not empty. */
  bool flushed[kSmallClasses + 1];
  uint8_t next_victim;
  /* The classes whose stacks have room, a bit each: no other has a block. Most programs use a few of them. */
  uint64_t with_room[(kSmallClasses + 64) / 64];
  uint64_t weighed_floors; /* of those: the sum of floor_of() times the block's size */

  std::atomic<ThreadCache*> next_free;
  ThreadCache* next; /* of all that were ever made */

  /* Where the far places begin, as an offset from `entries`, modulo 2^64: never among the near ones. 0: not made yet. */
  std::atomic<uint64_t> far_begin;

  /* The first null. A cache that has stacks is followed by the near ones: kCacheMapBytes in all. */
  char entries[sizeof(void*)];

  /* By numbers: what follows is not part of the array, and far places may lie below it. */
  void*& slot(uint64_t offset) noexcept {
    return *reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(this) +
                                     offsetof(ThreadCache, entries) + offset);
  }

  /* Of the stack with such a top: the place of its null. */
  uint64_t floor_of(unsigned class_index, uint64_t top) const noexcept {
    if (top < kStackPlaces.near_bytes) return kStackPlaces.near[class_index];
    // Whoever sees such a top sees where it lies: see far_place().
    std::atomic_thread_fence(std::memory_order_acquire);
    return far_begin.load(std::memory_order_relaxed) + kStackPlaces.far[class_index];
  }
  /** The owner's: where the stack's far place begins; 0: there is no memory for it. */
  uint64_t far_place(unsigned class_index) noexcept;
  uint32_t stacked(unsigned class_index) const noexcept {
    const uint64_t top = tops[class_index].load(std::memory_order_relaxed);
    return static_cast<uint32_t>((top - floor_of(class_index, top)) / sizeof(void*));
  }
  uint64_t cached_bytes() const noexcept;
  /** The same, for its owner: it is asked at each look, and looks only where there is room. */
  uint64_t own_cached_bytes() const noexcept;
  /** Blocks of a class, by all who ever had the cache. */
  uint64_t handed_out(unsigned class_index) const noexcept;
  /** Bytes handed out by all who ever had the cache. */
  uint64_t allocated_bytes() const noexcept;
  /** Taken less returned, by all who ever had the cache. */
  int64_t held_bytes() const noexcept {
    // Returned first: what is seen as returned was taken before.
    const uint64_t returned = returned_bytes.load(std::memory_order_acquire);
    return static_cast<int64_t>(taken_bytes.load(std::memory_order_relaxed) - returned);
  }
};

inline constexpr size_t kCacheMapBytes = offsetof(ThreadCache, entries) + kStackPlaces.near_bytes;

enum class CachePhase : uint8_t {
  kFresh,    /* has not allocated yet */
  kLive,     /* owns a cache */
  kTornDown, /* its destructors have run, or no cache could be had */
};

/** Thread-local, without a destructor. */
struct CacheOwner {
  ThreadCache* cache;
  CachePhase phase;
  uint8_t held;         /* how often the cache is held: not to be touched by whoever interrupts */
  bool looks_next_time; /* `active` is no_cache for that */
};

/* All zero: each stack ends where it begins, with a null below. */
MEMLIMIT_HIDDEN extern constinit ThreadCache no_cache;

MEMLIMIT_HIDDEN extern MEMLIMIT_TLS ThreadCache* active_cache;
MEMLIMIT_HIDDEN extern MEMLIMIT_TLS CacheOwner cache_owner;

/** Keeps the fast path, and whoever interrupts, away from the thread's cache. */
class CacheHold {
 public:
  CacheHold() noexcept {
    ++cache_owner.held;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    active_cache = &no_cache;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~CacheHold() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    --cache_owner.held;
    if (cache_owner.held == 0 && !cache_owner.looks_next_time &&
        cache_owner.phase == CachePhase::kLive) {
      active_cache = cache_owner.cache;
    }
  }
  CacheHold(const CacheHold&) = delete;
  CacheHold& operator=(const CacheHold&) = delete;

  /** The thread's cache, when this is the only hold; makes one for a fresh thread. nullptr: do without. */
  ThreadCache* cache() noexcept;
};

namespace thread_caches {

/** Counts for threads without a cache. Its counters are added to, not stored. */
MEMLIMIT_HIDDEN extern constinit ThreadCache shared;

/** How many threads own a cache now. */
uint32_t count() noexcept;

/** What the owner has not told yet, which it has told then. */
News take_news(ThreadCache& cache) noexcept;

/** What the calling thread has taken, less what it has returned and what lies in its stacks: of what it allocated, less
 *  what it freed. 0 without a cache. */
int64_t own_live_bytes() noexcept;

/** What the stacks of a thread that is alone may hold, and of all threads together. Each adapts at its next look. */
void set_cache_bytes(uint32_t bytes) noexcept;

/** What a thread's stacks may hold among so many: a quarter each time the number doubles, but never less than its part of
 *  kSharedBytes. */
constexpr uint32_t share_of(uint32_t bytes, uint32_t threads) noexcept {
  const unsigned doublings = threads > 1 ? static_cast<unsigned>(std::bit_width(threads - 1)) : 0;
  const uint32_t few = doublings < 16 ? bytes >> 2 * doublings : 0;
  return std::max(
      {few, std::min(bytes, kSharedBytes) >> doublings, std::min(bytes, kLeastShareBytes)});
}

/** Whether a thread whose stacks may hold `bound_bytes` follows its share now. Not for one thread that comes and goes: a lower
 *  bound costs all that the stacks hold. */
constexpr bool is_to_follow(uint32_t bytes, uint32_t share, uint32_t bound_bytes) noexcept {
  return share > bound_bytes || share < bound_bytes / (bytes > kSharedBytes ? 4 : 2);
}

/** The calling thread's share now, where it is to follow it, or else `bound_bytes`. */
uint32_t next_bound(uint32_t bound_bytes) noexcept;

/** A thread's share now. */
uint32_t share_bytes() noexcept;

/** All caches ever made. */
ThreadCache* all() noexcept;

/** Gives the calling thread's cache back: when its destructors run. What it still allocates and frees does without. */
void thread_exit() noexcept;

/** In the child of fork: what the other threads' caches hold is given up. Whether there were any. */
bool reset_after_fork() noexcept;

/** The thread that has it; 0: nobody's. For figures: a thread that forked has another number in the child. */
int32_t owner_tid(const ThreadCache& cache) noexcept;

/** Blocks of a class that were given up so. */
int64_t lost_blocks(unsigned class_index) noexcept;

}  // namespace thread_caches
}  // namespace memlimit::heap
