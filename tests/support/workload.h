/* A random allocation workload for several threads that knows the truth about itself: which blocks live, and
 * how many usable bytes were allocated and freed. Blocks wander between threads through mailboxes, so that many are
 * freed by another thread than the one that made them.
 *
 * Nothing here allocates but the workload's own blocks: the counts of the library under test can be compared with
 * the truth to the byte. Threads: a Worker belongs to one thread; mailboxes and truth() to all.
 */
#pragma once

#include <malloc.h>
#include <stdlib.h>

#include <atomic>
#include <new>

#include "check.h"

namespace workload {

constexpr int kThreads = 8;
constexpr int kSlots = 512;
constexpr int kMailboxes = 256;

/* What a worker has done so far, in usable bytes: written after each operation, by the worker alone. */
struct alignas(128) Done {
  std::atomic<int64_t> allocated{0};
  std::atomic<int64_t> freed{0};
};

inline Done done[kThreads];
inline std::atomic<void*> mailboxes[kMailboxes];

class Worker {
 public:
  /** `largest_bytes`: no request is larger (but for what alignment adds). */
  Worker(int index, size_t largest_bytes) noexcept
      : random_(static_cast<uint64_t>(index) * 7919 + 17),
        index_(index),
        largest_bytes_(largest_bytes) {}

  /** One operation: allocate, free, resize or hand over a block. */
  void step() {
    void*& slot = slots_[next() % kSlots];
    switch (next() % 8) {
      case 0:
      case 1:
      case 2:
        release(slot);
        slot = allocate(random_size());
        break;
      case 3:
        slot = resize(slot, random_size());
        break;
      case 4: /* a small change: often in place */
        if (slot != nullptr) slot = resize(slot, malloc_usable_size(slot) - next() % 8);
        break;
      case 5:
        release(slot);
        slot = nullptr;
        break;
      default: /* hand over; the release order makes the block's content the receiver's */
        slot = mailboxes[next() % kMailboxes].exchange(slot, std::memory_order_acq_rel);
        break;
    }
  }

  /** Sum of malloc_usable_size over the blocks held; while the worker rests. */
  int64_t held_bytes() const {
    int64_t sum = 0;
    for (void* block : slots_) sum += static_cast<int64_t>(malloc_usable_size(block));
    return sum;
  }

  void release_all() {
    for (void*& slot : slots_) {
      release(slot);
      slot = nullptr;
    }
  }

 private:
  uint64_t next() noexcept { return next_random(&random_); }

  size_t random_size() noexcept {
    const uint64_t kind = next() % 64;
    size_t bytes = next() % 300;
    if (kind < 8) bytes = next() % 5000;
    if (kind < 2) bytes = next() % 70000;
    if (kind == 0) bytes = next() % largest_bytes_;
    return bytes < largest_bytes_ ? bytes : largest_bytes_;
  }

  void* allocate(size_t bytes) {
    void* block = nullptr;
    switch (next() % 10) {
      case 0:
        block = calloc(1, bytes);
        break;
      case 1:
        block = memalign(size_t{16} << (next() % 10), bytes);
        break;
      case 2:
        CHECK_EQ(posix_memalign(&block, size_t{8} << (next() % 10), bytes), 0);
        break;
      case 3:
        block = aligned_alloc(size_t{16} << (next() % 6), bytes);
        break;
      case 4:
        block = ::operator new(bytes);
        break;
      case 5:
        block = ::operator new (bytes, std::align_val_t{64}, std::nothrow);
        break;
      case 6:
        block = reallocarray(nullptr, bytes, 1);
        break;
      default:
        block = malloc(bytes);
        break;
    }
    CHECK(block != nullptr);
    count(done[index_].allocated, block);
    if (bytes > 0) *static_cast<volatile char*>(block) = 1;
    return block;
  }

  void* resize(void* block, size_t bytes) {
    if (bytes == 0) bytes = 1;
    const auto old_bytes = static_cast<int64_t>(malloc_usable_size(block));
    void* resized = realloc(block, bytes);
    CHECK(resized != nullptr);
    count(done[index_].allocated, resized);
    done[index_].freed.fetch_add(old_bytes, std::memory_order_release);
    return resized;
  }

  void release(void* block) {
    const auto bytes = static_cast<int64_t>(malloc_usable_size(block));
    switch (next() % 4) {
      case 0:
        ::operator delete(block);
        break;
      case 1:
        if (block != nullptr) CHECK(opaque(realloc(block, opaque_size(0))) == nullptr);
        break;
      default:
        free(block);
        break;
    }
    done[index_].freed.fetch_add(bytes, std::memory_order_release);
  }

  static void count(std::atomic<int64_t>& sum, void* block) {
    sum.fetch_add(static_cast<int64_t>(malloc_usable_size(block)), std::memory_order_release);
  }

  uint64_t random_;
  int index_;
  size_t largest_bytes_;
  void* slots_[kSlots] = {};
};

/** Bytes in the mailboxes; while all workers rest. */
inline int64_t mailbox_bytes() {
  int64_t sum = 0;
  for (const auto& mailbox : mailboxes)
    sum += static_cast<int64_t>(malloc_usable_size(mailbox.load()));
  return sum;
}

/** Frees what nobody took out of the mailboxes. */
inline void empty_mailboxes() {
  for (auto& mailbox : mailboxes) free(mailbox.exchange(nullptr));
}

}  // namespace workload
