/* Purges that overlap: whoever purges by hand finds afterwards that all is back, whoever gave it. */
#include "engine/purge.h"

#include <atomic>
#include <thread>

#include <catch2/catch.hpp>

#include "engine/allocator.h"
#include "support/pretended_allocator.h"

namespace pretended = memlimit::test::pretended;
namespace purge = memlimit::purge;

namespace {

std::atomic<bool> holds{false}, may_let_go{false};
std::atomic<int> others_calls{0};
thread_local bool is_holder = false;

/* The holder's call lasts until another thread has looked, which finds nothing meanwhile; then there is something. */
memlimit::Purged overlapping(unsigned, int64_t, uint32_t*) noexcept {
  if (is_holder) {
    holds = true;
    while (!may_let_go) std::this_thread::yield();
    pretended::idle_bytes = 1000;
    return {0, true};
  }
  if (others_calls++ == 0) may_let_go = true;
  return {pretended::idle_bytes.exchange(0), true};
}

memlimit::Purged lone(unsigned, int64_t, uint32_t*) noexcept {
  ++others_calls;
  return {100, others_calls == 3};
}

class Allocator {
 public:
  explicit Allocator(memlimit::Purged (*call)(unsigned, int64_t, uint32_t*) noexcept) {
    static memlimit::AllocatorOps ops;
    ops = pretended::kOps;
    ops.purge = call;
    memlimit::set_allocator(ops);
    others_calls = 0;
  }
  ~Allocator() { memlimit::set_allocator(pretended::kOps); }
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;
};

}  // namespace

TEST_CASE("purge: who is alone at it looks once", "[purge]") {
  const Allocator allocator(lone);
  CHECK(purge::run_all() == 300);
  CHECK(others_calls == 3);
}

TEST_CASE("purge: what another thread has in its hands is waited for", "[purge]") {
  const Allocator allocator(overlapping);
  std::thread holder([] {
    is_holder = true;
    purge::run_turn(purge::Depth::kAll);
  });
  while (!holds) std::this_thread::yield();
  CHECK(purge::run_all() == 1000);
  CHECK(others_calls >= 2);
  holder.join();
}
