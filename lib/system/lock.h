/* A small futex mutex: four bytes, no allocation, usable inside malloc, and re-creatable in the child
 * of fork (which pthread mutexes are only by luck). Debug builds check the rank order of lock_rank.h.
 *
 * The three-state algorithm is Drepper's "Futexes Are Tricky", section 6 (mutex2): 0 free, 1 held,
 * 2 held and somebody waits.
 */
#pragma once

#include <atomic>
#include <cassert>
#include <cstdint>

#include "system/attributes.h"
#include "system/lock_rank.h"
#include "system/os.h"

namespace memlimit {

class MEMLIMIT_CAPABILITY("mutex") Lock {
 public:
  constexpr explicit Lock(LockRank rank) noexcept : rank_(rank) {}
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void lock() noexcept MEMLIMIT_ACQUIRE() {
    check_order();
    note_held();
    acquire();
  }

  /** Also false when this thread holds it, or is about to: a signal handler asks. */
  bool try_lock() noexcept MEMLIMIT_TRY_ACQUIRE(true) {
    if ((held_ranks() & bit()) != 0) return false;
    note_held();
    uint32_t seen = kFree;
    if (word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) return true;
    note_released();
    return false;
  }

  void unlock() noexcept MEMLIMIT_RELEASE() {
    if (word_.exchange(kFree, std::memory_order_release) == kContended) os::futex_wake(word_, 1);
    note_released();
  }

  /**
   * In fork's prepare handler, in rank order. A signal handler may fork in the middle of its own thread's
   * critical section: then nothing is waited for, since the wait would be for the thread itself or for
   * who waits for it, and the child gets what others were changing as it is.
   */
  void lock_for_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
    uint32_t seen = kFree;
    if ((held_ranks() & ~fork_ranks_) == 0) {
      acquire();
    } else if (!word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) {
      return;
    }
    note_held();
    fork_ranks_ |= bit();
  }

  /** In fork's parent handler: undoes lock_for_fork(). */
  void unlock_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
    if ((fork_ranks_ & bit()) == 0) return;
    fork_ranks_ &= ~bit();
    unlock();
  }

  /** In the child of fork only: whoever held it does not exist here. */
  MEMLIMIT_ALWAYS_INLINE void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
    // Most are free, and on pages that nobody else writes to in the child.
    if (word_.load(std::memory_order_relaxed) != kFree) {
      word_.store(kFree, std::memory_order_relaxed);
    }
    if ((fork_ranks_ & bit()) == 0) return;
    fork_ranks_ &= ~bit();
    note_released();
  }

 private:
  static constexpr uint32_t kFree = 0, kHeld = 1, kContended = 2;

  void acquire() noexcept {
    uint32_t seen = kFree;
    if (word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) return;
    if (seen != kContended) seen = word_.exchange(kContended, std::memory_order_acquire);
    while (seen != kFree) {
      os::futex_wait(word_, kContended, -1);
      seen = word_.exchange(kContended, std::memory_order_acquire);
    }
  }

  /* The locks that this thread holds or is about to: noted before, and forgotten after, so that a signal
   * handler never finds a lock held that is not noted. Relaxed atomics: only that handler looks. */
  static inline MEMLIMIT_TLS std::atomic<uint32_t> held_ranks_{0};
  static inline MEMLIMIT_TLS uint32_t fork_ranks_ = 0; /* those that lock_for_fork() took */

  uint32_t bit() const noexcept { return 1U << static_cast<int>(rank_); }
  static uint32_t held_ranks() noexcept { return held_ranks_.load(std::memory_order_relaxed); }
  void check_order() const noexcept {
    assert(held_ranks() < bit() && "locks taken out of rank order");
  }
  void note_held() const noexcept {
    held_ranks_.store(held_ranks() | bit(), std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  void note_released() const noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    held_ranks_.store(held_ranks() & ~bit(), std::memory_order_relaxed);
  }

  std::atomic<uint32_t> word_{kFree};
  [[maybe_unused]] LockRank rank_; /* debug builds look at it */
};

class MEMLIMIT_SCOPED_CAPABILITY LockGuard {
 public:
  explicit LockGuard(Lock& lock) noexcept MEMLIMIT_ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
  ~LockGuard() MEMLIMIT_RELEASE() { lock_.unlock(); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  Lock& lock_;
};

}  // namespace memlimit
