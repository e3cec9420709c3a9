/* See assist.h. */
#include "assist.h"

#include <algorithm>
#include <atomic>

#include "account.h"
#include "os.h"
#include "thread_state.h"

namespace memlimit::assist {
namespace {

/* Nobody insists on a step that has not ended for this long since the first thread did: twice what a hook may take.
 * It hangs, or waits for a lock that the insisting thread holds. */
constexpr int64_t kInsistNs = 200'000'000;

constinit int64_t longest_wait_ns = 0;

struct alignas(64) State {
  std::atomic<bool> busy{false};
  std::atomic<uint32_t> steps{0};             /* futex: changes when a step ends */
  std::atomic<uint32_t> waiting{0};           /* threads that wait for that */
  std::atomic<int64_t> insisting_since_ns{0}; /* 0: nobody has, in this step */
  Pause pause;
};
constinit State state{};

struct Counters {
  std::atomic<int64_t> waits{0};
  std::atomic<int64_t> ns{0};
  std::atomic<int64_t> max_ns{0};
  std::atomic<int64_t> insisted_ns{0};
};
constinit Counters counters{};
constinit Histogram waits_histogram{kDurationShape};

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

void Pause::learn(const Wait& wait) noexcept {
  if (wait.waited_ns < wait.longest_ns / kTellingDivisor) return;
  if (wait.freed_bytes >= kProgressBytes) {
    in_vain_.store(0, std::memory_order_relaxed);
    return;
  }
  int64_t until_ns = until_ns_.load(std::memory_order_relaxed);
  if (wait.began_ns < until_ns) return;
  const int in_vain = in_vain_.load(std::memory_order_relaxed);
  const int64_t pause_ns = wait.longest_ns << std::min(in_vain, kMostDoublings);
  if (until_ns_.compare_exchange_strong(until_ns, wait.began_ns + wait.waited_ns + pause_ns,
                                        std::memory_order_relaxed)) {
    in_vain_.store(in_vain + 1, std::memory_order_relaxed);
  }
}

void configure(int64_t longest_ns) noexcept { longest_wait_ns = longest_ns; }

void work_requested() noexcept { state.busy.store(true, std::memory_order_release); }

void step_done() noexcept { wake_all(); }

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
    const bool again = this_thread.assisted_step == mark;
    if (again && began_ns < this_thread.assists_again_ns) return;
    if (!state.pause.is_over(began_ns)) return;
  }
  this_thread.assisted_step = mark;

  const int64_t freed_before = account::published_freed_bytes();
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
  if (insist) counters.insisted_ns.fetch_add(waited, std::memory_order_relaxed);
  this_thread.assists_again_ns = began_ns + 2 * waited;
  state.pause.learn(
      {longest_wait_ns, began_ns, waited, account::published_freed_bytes() - freed_before});
}

void fill(memlimit_stats* figures) noexcept {
  figures->assists = counters.waits.load(std::memory_order_relaxed);
  figures->assist_ns = counters.ns.load(std::memory_order_relaxed);
  figures->assist_max_ns = counters.max_ns.load(std::memory_order_relaxed);
}

HistogramCopy histogram() noexcept { return waits_histogram.copy(); }

int64_t waited_ns() noexcept {
  return counters.ns.load(std::memory_order_relaxed) -
         counters.insisted_ns.load(std::memory_order_relaxed);
}

void reset_after_fork() noexcept {
  state.busy.store(false, std::memory_order_relaxed);
  state.waiting.store(0, std::memory_order_relaxed);
  state.insisting_since_ns.store(0, std::memory_order_relaxed);
  state.pause.reset();
  for (std::atomic<int64_t>* counter :
       {&counters.waits, &counters.ns, &counters.max_ns, &counters.insisted_ns}) {
    counter->store(0, std::memory_order_relaxed);
  }
  waits_histogram.reset();
  this_thread.assisted_step = 0;
  this_thread.assists_again_ns = 0;
}

}  // namespace memlimit::assist
