/* See poll_pass.h. */
#include "engine/poll_pass.h"

#include <algorithm>
#include <atomic>

#include "engine/allocator.h"
#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/hooks.h"
#include "engine/look.h"
#include "engine/poller.h"
#include "engine/pressure.h"
#include "engine/round.h"
#include "engine/thread_state.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::poll_pass {
namespace {

constinit MEMLIMIT_FORK_DATA std::atomic<bool> running{false};

}  // namespace

int run() noexcept {
  if (!poller::is_due()) return 0;
  if (ReentryGuard::inside()) return 0;
  if (running.exchange(true, std::memory_order_acquire)) return 0;
  os::ErrnoGuard errno_guard;
  const auto [wanted, asked] = poller::take();
  int calls = 0;
  if (wanted > 0 || asked > 0) {
    const int64_t began_ns = os::monotonic_ns();
    const int64_t round = counters::rounds();
    hooks::Pass pass =
        round::make_pass(round, std::max(wanted, asked), pressure::level(), decision::sample());
    if (asked > 0) round::ask_for_everything(&pass);
    const hooks::Outcome outcome = round::run_hooks(MEMLIMIT_POLL, pass);
    calls = outcome.calls;
    if (!outcome.forked) {
      if (wanted > 0) {
        round::end(round, wanted, outcome.freed_bytes, outcome.answered(), began_ns);
      } else {
        counters::add_reclaimed(outcome.freed_bytes);
      }
    }
  }
  running.store(false, std::memory_order_release);
  // As after an async pass: a loop that found little wanted and goes to sleep over the limit must be
  // woken for the rest, for it will not allocate its way to another look.
  if (calls > 0 && pressure::active()) {
    ReentryGuard reentry;
    allocator().publish_own(true);
    look::now(true);
  }
  return calls;
}

namespace {

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  running.store(false, std::memory_order_relaxed);
}

}  // namespace

constinit const fork::Part kForkPart{.name = "poll pass", .reset = reset_after_fork};

}  // namespace memlimit::poll_pass
