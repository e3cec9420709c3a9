/* See rest_watch.h. */
#include "engine/rest_watch.h"

#include <algorithm>
#include <atomic>

#include "engine/decision.h"
#include "engine/footprint.h"
#include "engine/purge.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::rest_watch {
namespace {

/* A program that breathes takes again what it gave back within less. Twice as long after each purge here that gave too little. */
constexpr int64_t kRestNs = 1'000'000'000;
constexpr int kMostDoublings = 6;

constinit MEMLIMIT_FORK_DATA std::atomic<int64_t> due{INT64_MAX};
/* When the look was asked for; read by the service thread after `due`. */
constinit MEMLIMIT_FORK_DATA std::atomic<int64_t> allocated_then{0};
/* Both written by the service thread alone. */
constinit MEMLIMIT_FORK_DATA std::atomic<int> doublings{0};
constinit MEMLIMIT_FORK_DATA int64_t purged_then = -1; /* negative: it has not purged */

bool is_over(const PurgeInput& in) noexcept {
  return in.limit_bytes > 0 && in.counted_bytes > in.limit_bytes && idle_is_worth(in);
}

void judge_last(const PurgeInput& in) noexcept {
  if (purged_then < 0) return;
  const bool in_vain = in.purged_bytes - purged_then < in.limit_bytes / kPurgeLimitDivisor;
  const int before = doublings.load(std::memory_order_relaxed);
  doublings.store(in_vain ? std::min(before + 1, kMostDoublings) : 0, std::memory_order_relaxed);
  purged_then = -1;
}

void run(const service::Turn& turn) noexcept {
  if (turn.now_ns < due.load(std::memory_order_acquire)) return;
  const int64_t before = allocated_then.load(std::memory_order_relaxed);
  due.store(INT64_MAX, std::memory_order_release);
  footprint::read();
  const PurgeInput in = decision::purge_input();
  judge_last(in);
  if (!is_over(in)) return;
  if (in.allocated_bytes - before >= in.limit_bytes / kBreathDivisor) {
    // Its last look may have come meanwhile, and asked for nothing since this one was due.
    note(in);
    return;
  }
  purged_then = in.purged_bytes;
  purge::ask(past_slack(in) ? purge::Depth::kAll : purge::Depth::kLargePieces);
}

}  // namespace

void note(const PurgeInput& in) noexcept {
  if (!is_over(in) || due.load(std::memory_order_relaxed) != INT64_MAX) return;
  int64_t none = INT64_MAX;
  const int64_t rest_ns = kRestNs << doublings.load(std::memory_order_relaxed);
  allocated_then.store(in.allocated_bytes, std::memory_order_relaxed);
  if (!due.compare_exchange_strong(none, os::monotonic_ns() + rest_ns, std::memory_order_release))
    return;
  service::wake();
}

constinit const service::Task kTask{
    .run = run,
    .due_ns = []() noexcept { return due.load(std::memory_order_relaxed); },
};

namespace {

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  due.store(INT64_MAX, std::memory_order_relaxed);
  doublings.store(0, std::memory_order_relaxed);
  purged_then = -1;
}

}  // namespace

constinit const fork::Part kForkPart{.name = "rest_watch", .reset = reset_after_fork};

}  // namespace memlimit::rest_watch
