/* See purge.h. */
#include "engine/purge.h"

#include <algorithm>
#include <atomic>

#include "engine/account.h"
#include "engine/allocator.h"
#include "engine/paced.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "pacing/purge_pacer.h"
#include "system/os.h"

namespace memlimit::purge {
namespace {

/* Read by every slow path, written rarely. */
struct alignas(64) Shared {
  std::atomic<uint32_t> epoch{0};
  std::atomic<bool> requested{false};
  std::atomic<int> eagerness{0}; /* as the allocator was told last */
};
constinit Shared shared{};

MEMLIMIT_TLS HoardState hoard{};

struct Counters {
  std::atomic<int64_t> purges{0};
  std::atomic<int64_t> cpu_ns{0};
  std::atomic<int64_t> purged{0};
};
constinit Counters counters{};

}  // namespace

int64_t collect_own() noexcept {
  ReentryGuard reentry;
  const int64_t cpu_before = os::thread_cpu_ns();
  const int64_t before = paced::read(service::running());
  {
    const fork::Inside inside;
    if (!inside) return 0;
    allocator().collect();
  }
  const int64_t after = paced::read(service::running(), 0);
  counters.purges.fetch_add(1, std::memory_order_relaxed);
  counters.cpu_ns.fetch_add(os::thread_cpu_ns() - cpu_before, std::memory_order_relaxed);
  const int64_t fell = before >= 0 && after >= 0 ? std::max<int64_t>(before - after, 0) : 0;
  counters.purged.fetch_add(fell, std::memory_order_relaxed);
  return fell;
}

bool is_asked() noexcept {
  return this_thread.phase == ThreadPhase::kLive &&
         this_thread.node->purge_epoch_seen != shared.epoch.load(std::memory_order_relaxed);
}

void collect_if_asked() noexcept {
  if (this_thread.phase != ThreadPhase::kLive) return;
  ThreadNode* const node = this_thread.node;
  const uint32_t epoch = shared.epoch.load(std::memory_order_acquire);
  if (node->purge_epoch_seen == epoch) return;
  node->purge_epoch_seen = epoch;
  collect_own();
  hoard_emptied(hoard, static_cast<int64_t>(node->published_allocated),
                static_cast<int64_t>(node->published_freed));
}

void collect_if_hoarding(int64_t limit_bytes) noexcept {
  if (this_thread.phase != ThreadPhase::kLive) return;
  const auto allocated = static_cast<int64_t>(this_thread.node->published_allocated);
  const auto freed = static_cast<int64_t>(this_thread.node->published_freed);
  // What all of them may keep together is a share of the limit.
  const int64_t threads = std::max(account::thread_count(), 1);
  const int64_t usage = account::published_usage_bytes();
  if (!hoard_due(hoard, limit_bytes / threads, usage, allocated, freed)) return;
  hoard_collected(hoard, allocated, freed, collect_own());
}

void ask_threads() noexcept { shared.epoch.fetch_add(1, std::memory_order_acq_rel); }

void ask_all() noexcept {
  ask_threads();
  shared.requested.store(true, std::memory_order_release);
  service::wake();
}

void give_up_kept() noexcept {
  if (allocator().kept_bytes() == 0) return;
  allocator().free_kept();
  ask_all();
}

bool has_request() noexcept { return shared.requested.load(std::memory_order_acquire); }

bool take_request() noexcept {
  return has_request() && shared.requested.exchange(false, std::memory_order_acq_rel);
}

void set_eagerness(Level level) noexcept {
  const int eager = static_cast<int>(level);
  if (shared.eagerness.load(std::memory_order_relaxed) == eager) return;
  if (shared.eagerness.exchange(eager, std::memory_order_relaxed) != eager) {
    allocator().set_eagerness(level);
  }
}

int64_t cpu_ns() noexcept { return counters.cpu_ns.load(std::memory_order_relaxed); }

int64_t purged_bytes() noexcept { return counters.purged.load(std::memory_order_relaxed); }

void fill(memlimit_stats* figures) noexcept {
  figures->purges = counters.purges.load(std::memory_order_relaxed);
  figures->purge_ns = cpu_ns();
  figures->purged = purged_bytes();
}

namespace {

void reset_after_fork() noexcept {
  shared.requested.store(false, std::memory_order_relaxed);
  for (std::atomic<int64_t>* counter : {&counters.purges, &counters.cpu_ns, &counters.purged}) {
    counter->store(0, std::memory_order_relaxed);
  }
}

}  // namespace

constinit const fork::Part kForkPart{.name = "purge", .reset = reset_after_fork};

}  // namespace memlimit::purge
