/* The fork handlers of the adapters' locks: the child is made inside a critical section, too. And their names. */
#include "runtimes/registry.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <iterator>
#include <string_view>
#include <thread>

#include <catch2/catch.hpp>

#include "runtimes/adapter.h"
#include "runtimes/sqlite.h"
#include "settings/config.h"
#include "system/lock.h"

using memlimit::Lock;
using memlimit::LockRank;
using Clock = std::chrono::steady_clock;
namespace runtimes = memlimit::runtimes;

namespace {

constexpr const memlimit::fork::Part* kParts[] = {&runtimes::kForkPart,
                                                  &runtimes::sqlite::kForkPart};

}  // namespace

TEST_CASE("registry: a fork inside a critical section waits for nobody",
          "[adapters][fork][threads]") {
  for (const memlimit::fork::Part* const part : kParts) {
    INFO(part->name);
    std::atomic<bool> held{false}, went_on{false};
    bool seen = false;
    // Ten seconds are for a machine that is busy: who waits, waits until they are over.
    std::thread other([&] {
      part->hold();
      held = true;
      const auto deadline = Clock::now() + std::chrono::seconds(10);
      while (!went_on && Clock::now() < deadline) std::this_thread::yield();
      seen = went_on;
      part->let_go();
    });
    while (!held) std::this_thread::yield();
    // As in a signal handler that interrupted the section.
    Lock own(LockRank::kLimit);
    own.lock();
    part->hold();
    went_on = true;
    part->let_go();
    own.unlock();
    other.join();
    CHECK(seen);
  }
}

TEST_CASE("registry: the child of a fork holds nothing", "[adapters][fork][threads]") {
  for (const memlimit::fork::Part* const part : kParts) {
    INFO(part->name);
    part->hold();
    part->reset();
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

TEST_CASE("registry: every adapter can be named in MEMLIMIT_ADAPTERS", "[adapters]") {
  for (const runtimes::Adapter* const adapter :
       {&runtimes::kCPython, &runtimes::kRuby, &runtimes::kV8, &runtimes::kJvm, &runtimes::kBeam,
        &runtimes::kPhp}) {
    INFO(adapter->name);
    CHECK(std::count(std::begin(memlimit::kAdapterNames), std::end(memlimit::kAdapterNames),
                     std::string_view(adapter->name)) == 1);
  }
}
