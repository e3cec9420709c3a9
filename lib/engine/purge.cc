/* See purge.h. */
#include "engine/purge.h"

#include <atomic>

#include "engine/allocator.h"
#include "engine/paced.h"
#include "engine/requests.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::purge {
namespace {

/* A fork waits for no more than these at the gate, nor does the end of a turn: two microseconds each, or 300 where
 * another processor of a virtual machine has to be told. */
constexpr unsigned kCallsAtOnce = 4;

constexpr int64_t kLargePieceBytes = int64_t{64} << 10;

/* Who purges by hand wants all of it to be back afterwards; but what another thread is at just now is in its hands, and looks
 * as if nothing were there. It takes a millisecond, or more where threads wait for a processor. */
constexpr unsigned kMostPasses = 50;
constexpr int64_t kPassPauseNs = 1'000'000;

constinit MEMLIMIT_FORK_DATA std::atomic<bool> requested{false};
constinit MEMLIMIT_FORK_DATA std::atomic<bool> all_requested{
    false}; /* Depth::kAll; stays until a purge is through */
/* The service thread's. */
constinit MEMLIMIT_FORK_DATA int64_t next_turn_ns = 0;
constinit MEMLIMIT_FORK_DATA uint32_t served_position = 0;

struct Counters {
  std::atomic<int64_t> purges{0};
  std::atomic<int64_t> cpu_ns{0};
  std::atomic<int64_t> purged{0};
};
constinit MEMLIMIT_FORK_DATA Counters counters{};

/* Calls of the allocator's purge, of all threads: begun, and ended. Sequentially consistent: of two that overlap, one sees
 * the other. */
constinit MEMLIMIT_FORK_DATA std::atomic<uint64_t> calls_begun{0}, calls_ended{0};

bool never() noexcept { return false; }

bool others_wait() noexcept { return requests::any() || service::is_leaving(); }

Purged call(int64_t least_bytes, uint32_t* position) noexcept {
  calls_begun.fetch_add(1);
  const Purged purged = allocator().purge(kCallsAtOnce, least_bytes, position);
  calls_ended.fetch_add(1);
  return purged;
}

struct Ran {
  bool complete; /* all was looked at */
  uint64_t calls;
};

Ran run_until(int64_t deadline_ns, Depth depth, bool (*must_end)() noexcept, uint32_t* position,
              int64_t* given) noexcept {
  ReentryGuard reentry;
  const int64_t least_bytes = depth == Depth::kAll ? 0 : kLargePieceBytes;
  const int64_t cpu_before = os::thread_cpu_ns();
  Ran ran{false, 0};
  do {
    // What a purge holds in its hands would be lost to the child of a fork.
    const fork::Inside inside;
    if (!inside) break;
    const Purged purged = call(least_bytes, position);
    *given += purged.bytes;
    ran.complete = purged.complete;
    ++ran.calls;
  } while (!ran.complete && !must_end() && os::monotonic_ns() < deadline_ns);
  counters.purged.fetch_add(*given, std::memory_order_relaxed);
  counters.purges.fetch_add(1, std::memory_order_relaxed);
  counters.cpu_ns.fetch_add(os::thread_cpu_ns() - cpu_before, std::memory_order_relaxed);
  paced::read(service::running(), 0);
  return ran;
}

}  // namespace

int64_t run_turn(Depth depth) noexcept {
  int64_t given = 0;
  uint32_t position = 0;
  run_until(os::monotonic_ns() + kTurnNs, depth, never, &position, &given);
  return given;
}

int64_t run_all() noexcept {
  std::atomic<uint32_t> nothing{0};
  int64_t given = 0;
  for (unsigned pass = 0; pass < kMostPasses; ++pass) {
    if (pass > 0) os::futex_wait(nothing, 0, kPassPauseNs);
    const uint64_t ended_before = calls_ended.load();
    uint32_t position = 0;
    const Ran ran = run_until(INT64_MAX, Depth::kAll, never, &position, &given);
    // As many as were over before, and this thread's: then no other was under way meanwhile.
    if (calls_begun.load() == ended_before + ran.calls) break;
  }
  return given;
}

void ask(Depth depth) noexcept {
  if (!service::running()) {
    run_turn(depth);
    return;
  }
  if (depth == Depth::kAll) all_requested.store(true, std::memory_order_relaxed);
  if (!requested.exchange(true, std::memory_order_acq_rel)) service::wake();
}

bool is_due() noexcept {
  return requested.load(std::memory_order_acquire) && os::monotonic_ns() >= next_turn_ns;
}

int64_t due_ns() noexcept {
  return requested.load(std::memory_order_acquire) ? next_turn_ns : INT64_MAX;
}

void serve() noexcept {
  requested.store(false, std::memory_order_release);
  const int64_t began_ns = os::monotonic_ns();
  const Depth depth =
      all_requested.load(std::memory_order_relaxed) ? Depth::kAll : Depth::kLargePieces;
  int64_t given = 0;
  if (run_until(began_ns + kTurnNs, depth, others_wait, &served_position, &given).complete) {
    all_requested.store(false, std::memory_order_relaxed);
  } else {
    const int64_t now_ns = os::monotonic_ns();
    next_turn_ns = now_ns + (now_ns - began_ns);
    requested.store(true, std::memory_order_release);
  }
}

int64_t cpu_ns() noexcept { return counters.cpu_ns.load(std::memory_order_relaxed); }

int64_t purged_bytes() noexcept { return counters.purged.load(std::memory_order_relaxed); }

int64_t ended() noexcept { return counters.purges.load(std::memory_order_relaxed); }

void fill(memlimit_stats* figures) noexcept {
  figures->purges = ended();
  figures->purge_ns = cpu_ns();
  figures->purged = purged_bytes();
}

namespace {

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  requested.store(false, std::memory_order_relaxed);
  all_requested.store(false, std::memory_order_relaxed);
  next_turn_ns = 0;
  served_position = 0;
  // The parent's threads have ended theirs at the gate, but for a fork that did not wait for them.
  calls_ended.store(calls_begun.load(std::memory_order_relaxed), std::memory_order_relaxed);
  for (std::atomic<int64_t>* counter : {&counters.purges, &counters.cpu_ns, &counters.purged}) {
    counter->store(0, std::memory_order_relaxed);
  }
}

}  // namespace

constinit const fork::Part kForkPart{.name = "purge", .reset = reset_after_fork};

}  // namespace memlimit::purge
