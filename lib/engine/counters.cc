/* See counters.h. */
#include "engine/counters.h"

#include "engine/purge.h"
#include "system/attributes.h"

namespace memlimit::counters {
namespace {

struct Counts {
  std::atomic<int64_t> rounds{0};
  std::atomic<int64_t> reclaimed{0};
  std::atomic<int64_t> overshoot_peak{0};
  std::atomic<int64_t> oversized{0};
  std::atomic<int64_t> reclaim_cpu_ns{0};
  std::atomic<int64_t> forks{0};
};
constinit MEMLIMIT_FORK_DATA Counts counts{};

constinit MEMLIMIT_FORK_DATA Histogram round_histogram{kDurationShape};
constinit MEMLIMIT_FORK_DATA Histogram freed_histogram{kBytesShape};

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  for (std::atomic<int64_t>* count : {&counts.rounds, &counts.reclaimed, &counts.overshoot_peak,
                                      &counts.oversized, &counts.reclaim_cpu_ns}) {
    count->store(0, std::memory_order_relaxed);
  }
  counts.forks.fetch_add(1, std::memory_order_relaxed);
  round_histogram.reset();
  freed_histogram.reset();
}

}  // namespace

int64_t next_round() noexcept { return counts.rounds.fetch_add(1, std::memory_order_relaxed) + 1; }

int64_t rounds() noexcept { return counts.rounds.load(std::memory_order_relaxed); }

void add_reclaimed(int64_t bytes) noexcept {
  counts.reclaimed.fetch_add(bytes, std::memory_order_relaxed);
}

void add_oversized() noexcept { counts.oversized.fetch_add(1, std::memory_order_relaxed); }

void note_overshoot(int64_t bytes) noexcept {
  int64_t seen = counts.overshoot_peak.load(std::memory_order_relaxed);
  while (bytes > seen &&
         !counts.overshoot_peak.compare_exchange_weak(seen, bytes, std::memory_order_relaxed)) {
  }
}

void observe_round(int64_t duration_ns, int64_t freed_bytes) noexcept {
  round_histogram.observe(duration_ns);
  freed_histogram.observe(freed_bytes);
}

void add_reclaim_cpu(int64_t cpu_ns) noexcept {
  counts.reclaim_cpu_ns.fetch_add(cpu_ns, std::memory_order_relaxed);
}

int64_t reclaim_cpu_ns() noexcept {
  return counts.reclaim_cpu_ns.load(std::memory_order_relaxed) + purge::cpu_ns();
}

void fill(memlimit_stats* figures) noexcept {
  figures->rounds = rounds();
  figures->reclaimed = counts.reclaimed.load(std::memory_order_relaxed);
  figures->overshoot_peak = counts.overshoot_peak.load(std::memory_order_relaxed);
  figures->oversized = counts.oversized.load(std::memory_order_relaxed);
  figures->reclaim_cpu_ns = reclaim_cpu_ns();
  figures->forks = counts.forks.load(std::memory_order_relaxed);
}

void fill_histograms(Snapshot* snapshot) noexcept {
  snapshot->round_ns = round_histogram.copy();
  snapshot->freed_bytes = freed_histogram.copy();
}

constinit const fork::Part kForkPart{.name = "counters", .reset = reset_after_fork};

}  // namespace memlimit::counters
