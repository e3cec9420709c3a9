/* See purge.h. */
#include "engine/purge.h"

#include <atomic>

#include "engine/allocator.h"
#include "engine/paced.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "system/os.h"

namespace memlimit::purge {
namespace {

/* A fork waits for no more than these at the gate, and a turn is not longer by more: some microseconds each. */
constexpr unsigned kCallsAtOnce = 32;

constinit std::atomic<bool> requested{false};
constinit int64_t next_turn_ns = 0; /* the service thread's */

struct Counters {
  std::atomic<int64_t> purges{0};
  std::atomic<int64_t> cpu_ns{0};
  std::atomic<int64_t> purged{0};
};
constinit Counters counters{};

/* Whether nothing is left. */
bool run_until(int64_t deadline_ns, int64_t* given) noexcept {
  ReentryGuard reentry;
  const int64_t cpu_before = os::thread_cpu_ns();
  bool complete = false;
  do {
    // What a purge holds in its hands would be lost to the child of a fork.
    const fork::Inside inside;
    if (!inside) break;
    const Purged purged = allocator().purge(kCallsAtOnce);
    *given += purged.bytes;
    complete = purged.complete;
  } while (!complete && os::monotonic_ns() < deadline_ns);
  counters.purged.fetch_add(*given, std::memory_order_relaxed);
  counters.purges.fetch_add(1, std::memory_order_relaxed);
  counters.cpu_ns.fetch_add(os::thread_cpu_ns() - cpu_before, std::memory_order_relaxed);
  paced::read(service::running(), 0);
  return complete;
}

}  // namespace

int64_t run_turn() noexcept {
  int64_t given = 0;
  run_until(os::monotonic_ns() + kTurnNs, &given);
  return given;
}

int64_t run_all() noexcept {
  int64_t given = 0;
  run_until(INT64_MAX, &given);
  return given;
}

void ask() noexcept {
  if (!service::running()) {
    run_turn();
    return;
  }
  if (!requested.exchange(true, std::memory_order_acq_rel)) service::wake();
}

bool is_due() noexcept {
  return requested.load(std::memory_order_acquire) && os::monotonic_ns() >= next_turn_ns;
}

int64_t due_ns() noexcept {
  return requested.load(std::memory_order_acquire) ? next_turn_ns : INT64_MAX;
}

int64_t serve() noexcept {
  requested.store(false, std::memory_order_release);
  const int64_t began_ns = os::monotonic_ns();
  int64_t given = 0;
  if (!run_until(began_ns + kTurnNs, &given)) {
    const int64_t now_ns = os::monotonic_ns();
    next_turn_ns = now_ns + (now_ns - began_ns);
    requested.store(true, std::memory_order_release);
  }
  return given;
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

void reset_after_fork() noexcept {
  requested.store(false, std::memory_order_relaxed);
  next_turn_ns = 0;
  for (std::atomic<int64_t>* counter : {&counters.purges, &counters.cpu_ns, &counters.purged}) {
    counter->store(0, std::memory_order_relaxed);
  }
}

}  // namespace

constinit const fork::Part kForkPart{.name = "purge", .reset = reset_after_fork};

}  // namespace memlimit::purge
