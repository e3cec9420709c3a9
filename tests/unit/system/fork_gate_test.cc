/* Forks keep threads out, and wait for those that are inside: not for the forking thread itself, and not for ever. */
#include "system/fork_gate.h"

#include <atomic>
#include <thread>

#include <catch2/catch.hpp>

#include "system/os.h"

using memlimit::ForkGate;

namespace {

constexpr int64_t kShortNs = 1'000'000;
constexpr int64_t kForeverNs = 3'600'000'000'000;

bool lets_in(ForkGate& gate) {
  uint32_t here = 0;
  const ForkGate::Inside inside(gate, here);
  return static_cast<bool>(inside);
}

}  // namespace

TEST_CASE("fork gate: nobody is let in while a fork is under way", "[fork]") {
  ForkGate gate;
  CHECK(lets_in(gate));
  gate.close(0, kForeverNs);
  CHECK(gate.is_closed());
  CHECK_FALSE(lets_in(gate));
  gate.close(0, kForeverNs); /* another thread forks, too */
  CHECK_FALSE(gate.open());
  CHECK_FALSE(lets_in(gate));
  CHECK(gate.open());
  CHECK_FALSE(gate.is_closed());
  CHECK(lets_in(gate));
}

TEST_CASE("fork gate: whoever opens it is told of those that were kept out", "[fork]") {
  ForkGate gate;
  gate.close(0, kForeverNs);
  CHECK_FALSE(gate.open());
  gate.close(0, kForeverNs);
  CHECK_FALSE(lets_in(gate));
  CHECK(gate.open());
  gate.close(0, kForeverNs);
  CHECK_FALSE(gate.open());
}

TEST_CASE("fork gate: a fork waits for threads that are inside, not for its own", "[fork]") {
  ForkGate gate;
  uint32_t here = 0;
  std::atomic<bool> left{false};
  std::atomic<bool> entered{false};
  std::thread other([&] {
    uint32_t others = 0;
    const ForkGate::Inside inside(gate, others);
    entered = true;
    while (!gate.is_closed()) memlimit::os::yield();
    left = true;
  });
  while (!entered) memlimit::os::yield();
  {
    const ForkGate::Inside once(gate, here);
    const ForkGate::Inside twice(gate, here);
    CHECK(here == 2);
    gate.close(here, kForeverNs);
    CHECK(left);
    CHECK_FALSE(gate.open());
  }
  other.join();
  CHECK(here == 0);
}

TEST_CASE("fork gate: a fork does not wait for ever, and its child finds nobody inside", "[fork]") {
  ForkGate gate;
  uint32_t others = 0;
  const ForkGate::Inside inside(gate, others);
  gate.close(0, kShortNs);
  CHECK(gate.is_closed());
  ForkGate in_child;
  in_child.close(0, kShortNs);
  in_child.reset_after_fork(0);
  CHECK(lets_in(in_child));
  CHECK_FALSE(in_child.open()); /* of a fork that a signal handler's fork interrupted */
  CHECK(lets_in(in_child));
  in_child.close(0, kForeverNs);
}

TEST_CASE("fork gate: who was kept out goes on after the fork, or after a while", "[fork]") {
  ForkGate gate;
  gate.wait_until_open(kForeverNs);
  gate.close(0, kForeverNs);
  gate.wait_until_open(kShortNs);
  CHECK(gate.is_closed());
}
