/* The fork handlers of the adapters' locks: the child is made inside a critical section, too. */
#include "runtimes/registry.h"

#include <atomic>
#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

#include "runtimes/sqlite.h"
#include "system/lock.h"

using memlimit::Lock;
using memlimit::LockRank;
using Clock = std::chrono::steady_clock;
namespace runtimes = memlimit::runtimes;

namespace {

struct Handlers {
  const char* name;
  void (*lock)() noexcept;
  void (*unlock)() noexcept;
  void (*reset)() noexcept;
};
constexpr Handlers kHandlers[] = {
    {"registry", runtimes::lock_for_fork, runtimes::unlock_after_fork, runtimes::reset_after_fork},
    {"sqlite", runtimes::sqlite::lock_for_fork, runtimes::sqlite::unlock_after_fork,
     runtimes::sqlite::reset_after_fork},
};

}  // namespace

TEST_CASE("registry: a fork inside a critical section waits for nobody",
          "[adapters][fork][threads]") {
  for (const Handlers& handlers : kHandlers) {
    INFO(handlers.name);
    std::atomic<bool> held{false}, went_on{false};
    bool seen = false;
    // Ten seconds are for a machine that is busy: who waits, waits until they are over.
    std::thread other([&] {
      handlers.lock();
      held = true;
      const auto deadline = Clock::now() + std::chrono::seconds(10);
      while (!went_on && Clock::now() < deadline) std::this_thread::yield();
      seen = went_on;
      handlers.unlock();
    });
    while (!held) std::this_thread::yield();
    // As in a signal handler that interrupted the section.
    Lock own(LockRank::kLimit);
    own.lock();
    handlers.lock();
    went_on = true;
    handlers.unlock();
    own.unlock();
    other.join();
    CHECK(seen);
  }
}

TEST_CASE("registry: the child of a fork holds nothing", "[adapters][fork][threads]") {
  for (const Handlers& handlers : kHandlers) {
    INFO(handlers.name);
    handlers.lock();
    handlers.reset();
    // A fork of the child's own: who holds nothing waits for those who do.
    Lock taken(LockRank::kHooks);
    std::atomic<bool> held{false}, released{false};
    std::thread other([&] {
      taken.lock();
      held = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      released = true;
      taken.unlock();
    });
    while (!held) std::this_thread::yield();
    taken.lock_for_fork();
    CHECK(released);
    taken.unlock_after_fork();
    other.join();
  }
}
