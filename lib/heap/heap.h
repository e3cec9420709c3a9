/* The heap: what the entry points call. The fast path of each call is here, inlined: a look-up and a pop or a push.
 *
 * Answers for: blocks, their sizes and their count. Refuses to know: glibc's or C++'s rules (errno, null, new_handler;
 * a size of 0 is a block of its own), limits, mimalloc.
 *
 * Threads: all functions from any thread, without locks. Context: from the first instruction of the process, in
 * destructors of threads and of the process, in the child of fork, _Fork and clone, and in a signal handler that
 * interrupts anything but the few instructions of allocate() and release() themselves.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "heap/address_map.h"
#include "heap/page_source.h"
#include "heap/size_classes.h"
#include "heap/thread_cache.h"
#include "system/attributes.h"

namespace memlimit::heap {

namespace slow {

/* Where the fast path ends: no table entry for the size; an empty stack, or no cache; a block to be sampled; no room, or
 * no class. */
void* allocate_larger(size_t bytes) noexcept;
void* allocate_from_spans(size_t class_index) noexcept;
void* sample(void* block, size_t class_index) noexcept;
void release(void* block) noexcept;
[[noreturn]] void report_double_free(void* block) noexcept;

void* allocate_larger_zeroed(size_t bytes) noexcept;
void* allocate_larger_aligned(size_t alignment, size_t bytes) noexcept;
size_t usable_bytes(const void* block) noexcept;

}  // namespace slow

/** Where allocate() leaves its fast path for want of a block: each returns one, or nullptr. An embedder that throws when there is no
 *  memory brings another one, so that only these paths test for it. */
struct Leave {
  static void* larger(size_t bytes) noexcept { return slow::allocate_larger(bytes); }
  static void* from_spans(size_t class_index) noexcept {
    return slow::allocate_from_spans(class_index);
  }
};

namespace detail {

/* Whether it is 0 then. One instruction on x86-64, and a branch on its flag: only the owner writes, and readers see the
 * value before or after. */
MEMLIMIT_ALWAYS_INLINE bool count_one(std::atomic<uint64_t>& counter) noexcept {
#if defined(__x86_64__) && !MEMLIMIT_THREAD_SANITIZER
  bool zero;
  __asm__ volatile("incq %[counter]" : [counter] "+m"(counter), "=@ccz"(zero));
  return zero;
#else
  const uint64_t count = counter.load(std::memory_order_relaxed) + 1;
  counter.store(count, std::memory_order_relaxed);
  return count == 0;
#endif
}

template <typename LeaveTo>
MEMLIMIT_ALWAYS_INLINE void* pop(size_t class_index) noexcept(noexcept(LeaveTo::from_spans(0))) {
  ThreadCache& cache = *active_cache;
  const uint64_t top = cache.tops[class_index].load(std::memory_order_relaxed);
  void* const block = cache.slot(top);
  if (MEMLIMIT_UNLIKELY(block == nullptr)) return LeaveTo::from_spans(class_index);
  hide(class_index);
  cache.tops[class_index].store(top - sizeof(void*), std::memory_order_relaxed);
  if (MEMLIMIT_UNLIKELY(count_one(cache.pops[class_index])))
    return slow::sample(block, class_index);
  return block;
}

}  // namespace detail

/** A block of at least so many bytes, aligned to 16; nullptr when there is no memory. */
template <typename LeaveTo = Leave>
MEMLIMIT_ALWAYS_INLINE void* allocate(size_t bytes) noexcept(noexcept(LeaveTo::larger(0))) {
  if (MEMLIMIT_UNLIKELY(bytes > kTableBytes)) return LeaveTo::larger(bytes);
  return detail::pop<LeaveTo>(kSmallTable[bytes]);
}

/** The same, its first `bytes` bytes zero. */
MEMLIMIT_ALWAYS_INLINE void* allocate_zeroed(size_t bytes) noexcept {
  if (MEMLIMIT_UNLIKELY(bytes > kTableBytes)) return slow::allocate_larger_zeroed(bytes);
  void* const block = detail::pop<Leave>(kSmallTable[bytes]);
  return MEMLIMIT_LIKELY(block != nullptr) ? memset(block, 0, bytes) : nullptr;
}

/** alignment: a power of two, of any size. */
MEMLIMIT_ALWAYS_INLINE void* allocate_aligned(size_t alignment, size_t bytes) noexcept {
  const size_t rounded = (bytes + alignment - 1) & ~(alignment - 1);
  // A request that is a multiple of its alignment is a class of that alignment, if it has one: size_classes.h.
  if (MEMLIMIT_UNLIKELY(rounded - 1 >= kTableBytes))
    return slow::allocate_larger_aligned(alignment, bytes);
  return detail::pop<Leave>(kSmallTable[rounded]);
}

/** nullptr does nothing. */
MEMLIMIT_ALWAYS_INLINE void release(void* block) noexcept {
  size_t class_index = class_at(block);
  ThreadCache& cache = *active_cache;
  uint64_t top = cache.tops[class_index].load(std::memory_order_relaxed);
  if (MEMLIMIT_UNLIKELY(top == cache.ends[class_index])) {
    slow::release(block);
    return;
  }
  // The same block twice in a row: what a double free is, most of the time. Others are found at flush.
  if (MEMLIMIT_UNLIKELY(cache.slot(top) == block)) slow::report_double_free(block);
  top += sizeof(void*);
  detail::hide(class_index);  // or addresses are computed apart, for two uses each
  detail::hide(top);
  cache.slot(top) = block;
  cache.tops[class_index].store(top, std::memory_order_relaxed);
}

/** The size is what was asked for. It is not trusted: the look-up costs three instructions more than a table. */
MEMLIMIT_ALWAYS_INLINE void release_sized(void* block, size_t) noexcept { release(block); }

/** What the program may use of a block; 0 for nullptr. */
MEMLIMIT_ALWAYS_INLINE size_t usable_bytes(const void* block) noexcept {
  const unsigned class_index = class_at(block);
  if (MEMLIMIT_LIKELY(kClasses[class_index].block_bytes != 0))
    return kClasses[class_index].block_bytes;
  return slow::usable_bytes(block);
}

/** What usable_bytes() will say of a block for such a request. */
size_t good_size(size_t bytes) noexcept;

/**
 * still_serves() - whether a block that is to have another size stays as it is
 * @bytes:       what it is to have: as asked for, or what a new block for that would have
 * @block_bytes: what it has
 *
 * It does where that wastes no more than a quarter of it. Who makes a block smaller wants the rest back: Redis lets a value
 * grow by doubling while it reads it and trims it then, and with mimalloc's rule, a half, holds 1.3 times of what it holds
 * with glibc, which gives back whatever is left.
 */
constexpr bool still_serves(size_t bytes, size_t block_bytes) noexcept {
  return bytes <= block_bytes && bytes >= block_bytes - block_bytes / 4;
}

/**
 * Makes a block larger or smaller where it is; huge blocks may move, which costs no copy. Returns where the block is
 * now, or nullptr: it is as it was, and the caller has to copy.
 */
void* resize(void* block, size_t bytes) noexcept;

/** How many bytes a thread may take, or return, before it looks up (HeapOps::look). At each thread's next refill. */
void set_quantum_bytes(uint64_t bytes) noexcept;

/** Mean number of allocated bytes between two blocks that are sampled (HeapOps::sampled); 0: none is. At each thread's next
 *  refill. */
void set_sample_interval_bytes(uint64_t bytes) noexcept;

/** What the threads' stacks may hold, all together (2 MiB; each thread has its share, at least 128 KiB of it). At each
 *  thread's next look. */
inline void set_cache_bytes(uint32_t bytes) noexcept { thread_caches::set_cache_bytes(bytes); }

/** The calling thread looks up at its next allocation, however small. In any context, a signal handler too. */
void look_at_next_allocation() noexcept;

/** What the calling thread's stacks hold goes back to the spans; it tells what it has done (HeapOps::publish). */
void flush_own_cache() noexcept;

/** The calling thread tells what it has done. */
void publish_own() noexcept;

/** When the process ends: a block that was freed twice, and still lies in the calling thread's stacks, is reported. */
void check_own_cache() noexcept;

/** When the calling thread's destructors run (see HeapOps::arm_thread_exit). */
void thread_exit() noexcept;

/** In the child of fork: the blocks in other threads' stacks are given up. A child that does not call it (_Fork, clone)
 *  works all the same; its leases are then fewer. Whether there were any. */
bool reset_after_fork() noexcept;

}  // namespace memlimit::heap
