/* The futex mutex: exclusion, try_lock, and the reset a child of fork needs. */
#include "system/lock.h"

#include <thread>
#include <vector>

#include <catch2/catch.hpp>

using memlimit::Lock;
using memlimit::LockGuard;
using memlimit::LockRank;

TEST_CASE("lock: increments under contention are not lost", "[lock][threads]") {
  Lock lock(LockRank::kHooks);
  int64_t counter = 0;
  constexpr int kThreads = 4, kTurns = 20000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kTurns; ++i) {
        LockGuard guard(lock);
        ++counter;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(counter == int64_t{kThreads} * kTurns);
}

TEST_CASE("lock: try_lock fails while another thread holds it", "[lock][threads]") {
  Lock lock(LockRank::kHooks);
  lock.lock();
  bool got = true;
  std::thread([&] {
    got = lock.try_lock();
    if (got) lock.unlock();
  }).join();
  CHECK_FALSE(got);
  lock.unlock();
  REQUIRE(lock.try_lock());
  lock.unlock();
}

TEST_CASE("lock: try_lock inside the thread's own critical section changes nothing", "[lock]") {
  // As in a signal handler that interrupted it: a fork there must still find the lock noted.
  Lock own(LockRank::kReclaim);
  own.lock();
  CHECK_FALSE(own.try_lock());
  own.lock_for_fork();
  own.unlock_after_fork();
  own.unlock();
  REQUIRE(own.try_lock());
  own.unlock();
}

TEST_CASE("lock: a reset lock is free", "[lock]") {
  Lock lock(LockRank::kHooks);
  std::thread([&] { lock.lock(); }).join();
  lock.reset_after_fork();
  REQUIRE(lock.try_lock());
  lock.unlock();
}

TEST_CASE("lock: a fork waits for other threads", "[lock][fork]") {
  Lock lock(LockRank::kHooks);
  lock.lock_for_fork();
  std::thread([&] { CHECK_FALSE(lock.try_lock()); }).join();
  lock.unlock_after_fork();
  REQUIRE(lock.try_lock());
  lock.unlock();
}

TEST_CASE("lock: a fork inside a critical section waits for nobody", "[lock][fork]") {
  // As in a signal handler that interrupted the section.
  Lock own(LockRank::kReclaim), taken(LockRank::kHooks), free(LockRank::kGroup);
  std::thread other([&] { taken.lock(); });
  other.join();
  own.lock();
  own.lock_for_fork();
  taken.lock_for_fork();
  free.lock_for_fork();
  CHECK_FALSE(free.try_lock());
  free.unlock_after_fork();
  taken.unlock_after_fork();
  own.unlock_after_fork();
  // What the fork could not take is as it was, and what it took is given back.
  CHECK_FALSE(own.try_lock());
  CHECK_FALSE(taken.try_lock());
  REQUIRE(free.try_lock());
  free.unlock();
  own.unlock();
  REQUIRE(own.try_lock());
  own.unlock();
}

TEST_CASE("lock: the child of a fork inside a critical section finds the lock free",
          "[lock][fork]") {
  Lock own(LockRank::kReclaim);
  own.lock();
  own.lock_for_fork();
  own.reset_after_fork();
  own.unlock();  // the section goes on in the child, too
  REQUIRE(own.try_lock());
  own.unlock();
}
