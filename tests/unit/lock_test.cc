/* The futex mutex: exclusion, try_lock, and the reset a child of fork needs. */
#include "lock.h"

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

TEST_CASE("lock: a reset lock is free", "[lock]") {
  Lock lock(LockRank::kHooks);
  lock.lock();
  lock.reset_after_fork();
  REQUIRE(lock.try_lock());
  lock.unlock();
}
