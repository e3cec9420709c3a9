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

#include "attributes.h"
#include "lock_rank.h"
#include "os.h"

namespace memlimit {

class MEMLIMIT_CAPABILITY("mutex") Lock {
 public:
  constexpr explicit Lock(LockRank rank) noexcept : rank_(rank) {}
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void lock() noexcept MEMLIMIT_ACQUIRE() {
    check_order();
    uint32_t seen = kFree;
    if (!word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) {
      if (seen != kContended) seen = word_.exchange(kContended, std::memory_order_acquire);
      while (seen != kFree) {
        os::futex_wait(word_, kContended, -1);
        seen = word_.exchange(kContended, std::memory_order_acquire);
      }
    }
    note_held();
  }

  bool try_lock() noexcept MEMLIMIT_TRY_ACQUIRE(true) {
    uint32_t seen = kFree;
    if (!word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) return false;
    note_held();
    return true;
  }

  void unlock() noexcept MEMLIMIT_RELEASE() {
    note_released();
    if (word_.exchange(kFree, std::memory_order_release) == kContended) os::futex_wake(word_, 1);
  }

  /** In the child of fork only: whoever held it does not exist here. */
  void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
    word_.store(kFree, std::memory_order_relaxed);
#ifndef NDEBUG
    held_ranks_ = 0;
#endif
  }

 private:
  static constexpr uint32_t kFree = 0, kHeld = 1, kContended = 2;

#ifdef NDEBUG
  void check_order() const noexcept {}
  void note_held() const noexcept {}
  void note_released() const noexcept {}
#else
  static inline MEMLIMIT_TLS uint32_t held_ranks_ = 0;
  uint32_t bit() const noexcept { return 1U << static_cast<int>(rank_); }
  void check_order() const noexcept {
    assert(held_ranks_ < bit() && "locks taken out of rank order");
  }
  void note_held() const noexcept { held_ranks_ |= bit(); }
  void note_released() const noexcept { held_ranks_ &= ~bit(); }
#endif

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
