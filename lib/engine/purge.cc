/* See purge.h. */
#include "engine/purge.h"

#include <algorithm>
#include <atomic>

#include "engine/allocator.h"
#include "engine/paced.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "system/os.h"

namespace memlimit::purge {
namespace {

/* A fork waits for no more than this at the gate: a fraction of a millisecond. */
constexpr unsigned kCallsAtOnce = 128;

constinit std::atomic<bool> requested{false};

struct Counters {
  std::atomic<int64_t> purges{0};
  std::atomic<int64_t> cpu_ns{0};
  std::atomic<int64_t> purged{0};
};
constinit Counters counters{};

}  // namespace

int64_t run(unsigned most_calls) noexcept {
  ReentryGuard reentry;
  const int64_t cpu_before = os::thread_cpu_ns();
  int64_t given = 0;
  for (unsigned calls = 0; calls < most_calls; calls += kCallsAtOnce) {
    // What a purge holds in its hands would be lost to the child of a fork.
    const fork::Inside inside;
    if (!inside) break;
    const Purged purged = allocator().purge(std::min(kCallsAtOnce, most_calls - calls));
    given += purged.bytes;
    if (purged.complete) break;
  }
  counters.purged.fetch_add(given, std::memory_order_relaxed);
  counters.purges.fetch_add(1, std::memory_order_relaxed);
  counters.cpu_ns.fetch_add(os::thread_cpu_ns() - cpu_before, std::memory_order_relaxed);
  paced::read(service::running(), 0);
  return given;
}

void ask() noexcept {
  if (!service::running()) {
    run(kTurnCalls);
    return;
  }
  requested.store(true, std::memory_order_release);
  service::wake();
}

bool has_request() noexcept { return requested.load(std::memory_order_acquire); }

bool take_request() noexcept {
  return has_request() && requested.exchange(false, std::memory_order_acq_rel);
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
  for (std::atomic<int64_t>* counter : {&counters.purges, &counters.cpu_ns, &counters.purged}) {
    counter->store(0, std::memory_order_relaxed);
  }
}

}  // namespace

constinit const fork::Part kForkPart{.name = "purge", .reset = reset_after_fork};

}  // namespace memlimit::purge
