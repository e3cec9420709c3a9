/* See assist.h. */
#include "engine/assist.h"

#include <algorithm>
#include <atomic>

#include "engine/account.h"
#include "engine/thread_state.h"
#include "system/attributes.h"
#include "system/os.h"
#include "system/procfs.h"

namespace memlimit::assist {
namespace {

/* Nobody insists on a step that has not ended for this long since the first thread did: twice what a hook may take.
 * It hangs, or waits for a lock that the insisting thread holds. */
constexpr int64_t kInsistNs = 200'000'000;

constinit int64_t longest_wait_ns = 0;

struct alignas(64) State {
  std::atomic<bool> busy{false};
  std::atomic<uint32_t> steps{0};             /* futex: changes when a step ends */
  std::atomic<int64_t> given{0};              /* bytes, by hooks, ever; changes before that */
  std::atomic<uint32_t> waiting{0};           /* threads that wait for that */
  std::atomic<int64_t> insisting_since_ns{0}; /* 0: nobody has, in this step */
  std::atomic<int> worker_tid{0};
  Skips skips;
};
constinit MEMLIMIT_FORK_DATA State state{};

struct Counters {
  std::atomic<int64_t> waits{0};
  std::atomic<int64_t> ns{0};
  std::atomic<int64_t> max_ns{0};
  std::atomic<int64_t> excused_ns{0};
};
constinit MEMLIMIT_FORK_DATA Counters counters{};
constinit MEMLIMIT_FORK_DATA Histogram waits_histogram{kDurationShape};

void record(int64_t ns) noexcept {
  counters.waits.fetch_add(1, std::memory_order_relaxed);
  counters.ns.fetch_add(ns, std::memory_order_relaxed);
  int64_t highest = counters.max_ns.load(std::memory_order_relaxed);
  while (ns > highest &&
         !counters.max_ns.compare_exchange_weak(highest, ns, std::memory_order_relaxed)) {
  }
  waits_histogram.observe(ns);
}

/* Whether the step may still be insisted on. */
bool worth_insisting(int64_t now_ns) noexcept {
  int64_t since_ns = 0;
  if (state.insisting_since_ns.compare_exchange_strong(since_ns, now_ns,
                                                       std::memory_order_relaxed)) {
    return true;
  }
  return now_ns - since_ns < kInsistNs;
}

void wake_all() noexcept {
  state.insisting_since_ns.store(0, std::memory_order_relaxed);
  // Sequentially consistent with wait(): whoever is not seen waiting sees the new step.
  state.steps.fetch_add(1, std::memory_order_seq_cst);
  if (state.waiting.load(std::memory_order_seq_cst) != 0) os::futex_wake(state.steps, INT32_MAX);
}

}  // namespace

bool Skips::take() noexcept {
  uint32_t left = left_.load(std::memory_order_relaxed);
  while (left > 0) {
    if (left_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) return true;
  }
  return false;
}

void Skips::learn(const Wait& wait) noexcept {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  if (wait.starved) return;
  int64_t freed_bytes = wait.freed_bytes;
  if (wait.waited_ns < wait.longest_ns / kTellingDivisor) {
    freed_bytes += short_freed_bytes_.fetch_add(freed_bytes, kRelaxed);
    if (short_ns_.fetch_add(wait.waited_ns, kRelaxed) + wait.waited_ns < wait.longest_ns) return;
    short_ns_.store(0, kRelaxed);
    short_freed_bytes_.store(0, kRelaxed);
  }
  if (freed_bytes >= kProgressBytes) {
    next_.store(kFirstSkips, kRelaxed);
    return;
  }
  const uint32_t skips = next_.load(kRelaxed);
  left_.store(skips, kRelaxed);
  next_.store(std::min(skips * 2, kMostSkips), kRelaxed);
}

void configure(int64_t longest_ns) noexcept { longest_wait_ns = longest_ns; }

void set_worker(int tid) noexcept { state.worker_tid.store(tid, std::memory_order_relaxed); }

void work_requested() noexcept { state.busy.store(true, std::memory_order_release); }

void step_done(int64_t given_bytes) noexcept {
  state.given.fetch_add(given_bytes, std::memory_order_relaxed);
  wake_all();
}

void work_done() noexcept {
  state.busy.store(false, std::memory_order_release);
  wake_all();
}

void wait(bool insist) noexcept {
  if (longest_wait_ns == 0 || this_thread.is_service) return;
  const uint32_t step = state.steps.load(std::memory_order_acquire);
  if (!state.busy.load(std::memory_order_acquire)) return;
  // 0 is a thread that never waited; the step's number is kept one up.
  const uint64_t mark = uint64_t{step} + 1;
  const int64_t began_ns = os::monotonic_ns();
  insist = insist && worth_insisting(began_ns);
  if (!insist) {
    if (this_thread.assisted_step == mark) return;
    this_thread.assisted_step = mark;
    if (state.skips.take()) return;
  }

  const int worker = state.worker_tid.load(std::memory_order_relaxed);
  const int64_t worker_cpu_before = os::thread_cpu_ns(worker);
  const int64_t freed_before = account::published_freed_bytes();
  const int64_t usage_before = account::published_usage_bytes();
  const int64_t given_before = state.given.load(std::memory_order_relaxed);
  int64_t waited = 0;
  bool stepped = false;
  state.waiting.fetch_add(1, std::memory_order_seq_cst);
  while (!stepped && waited < longest_wait_ns) {
    os::futex_wait(state.steps, step, longest_wait_ns - waited);
    stepped = state.steps.load(std::memory_order_acquire) != step;
    waited = os::monotonic_ns() - began_ns;
  }
  state.waiting.fetch_sub(1, std::memory_order_relaxed);
  record(waited);
  // Where the step has ended others may have freed what they allocate.
  const int64_t given = state.given.load(std::memory_order_relaxed) - given_before;
  const int64_t fell = usage_before - account::published_usage_bytes();
  const int64_t freed =
      stepped ? std::max(given, fell) : account::published_freed_bytes() - freed_before;
  // A hook that computes all the time lacks nothing, and one that never ends is not waited for again and again.
  const bool starved = !stepped && freed < kProgressBytes &&
                       os::thread_cpu_ns(worker) - worker_cpu_before < waited / 2 &&
                       procfs::thread_is_runnable(worker) && worth_insisting(began_ns + waited);
  if (starved) this_thread.assisted_step = 0;
  // What lasted longer than the longest wait was this thread's own turn for a processor.
  const int64_t excused =
      insist || starved ? waited : std::max<int64_t>(waited - longest_wait_ns, 0);
  counters.excused_ns.fetch_add(excused, std::memory_order_relaxed);
  state.skips.learn({longest_wait_ns, waited, freed, starved});
}

void fill(memlimit_stats* figures) noexcept {
  figures->assists = counters.waits.load(std::memory_order_relaxed);
  figures->assist_ns = counters.ns.load(std::memory_order_relaxed);
  figures->assist_max_ns = counters.max_ns.load(std::memory_order_relaxed);
}

HistogramCopy histogram() noexcept { return waits_histogram.copy(); }

int64_t waited_ns() noexcept {
  return counters.ns.load(std::memory_order_relaxed) -
         counters.excused_ns.load(std::memory_order_relaxed);
}

namespace {

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  state.busy.store(false, std::memory_order_relaxed);
  state.waiting.store(0, std::memory_order_relaxed);
  state.insisting_since_ns.store(0, std::memory_order_relaxed);
  state.skips.reset();
  for (std::atomic<int64_t>* counter :
       {&counters.waits, &counters.ns, &counters.max_ns, &counters.excused_ns}) {
    counter->store(0, std::memory_order_relaxed);
  }
  waits_histogram.reset();
  this_thread.assisted_step = 0;
}

}  // namespace

constinit const fork::Part kForkPart{.name = "assist", .reset = reset_after_fork};

}  // namespace memlimit::assist
