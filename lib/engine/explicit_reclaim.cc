/* See explicit_reclaim.h. */
#include "engine/explicit_reclaim.h"

#include <algorithm>

#include "engine/account.h"
#include "engine/allocator.h"
#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/hooks.h"
#include "engine/participants.h"
#include "engine/poller.h"
#include "engine/pressure.h"
#include "engine/purge.h"
#include "engine/requests.h"
#include "engine/round.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "observe/event_ring.h"
#include "system/os.h"

namespace memlimit::explicit_reclaim {
namespace {

/* memlimit_reclaim() waits this long for the service thread. */
constexpr int64_t kExplicitWaitNs = 10'000'000'000;

}  // namespace

int64_t purge_now() noexcept {
  os::ErrnoGuard errno_guard;
  ReentryGuard reentry;
  allocator().publish_own(true);
  return purge::run_all();
}

int64_t now(int64_t bytes) noexcept {
  if (ReentryGuard::inside()) return 0;
  os::ErrnoGuard errno_guard;
  int64_t freed = 0;
  {
    ReentryGuard reentry;
    allocator().publish_own(true);
    const int64_t wanted = bytes > 0 ? bytes : INT64_MAX / 2;
    const int64_t began_ns = os::monotonic_ns();
    const int64_t usage_before = account::published_usage_bytes();
    const int64_t number = counters::next_round();
    hooks::Pass pass = round::make_pass(number, wanted, pressure::level(), decision::sample());
    round::ask_for_everything(&pass);
    const hooks::Outcome outcome = round::run_hooks(MEMLIMIT_INLINE, pass);
    counters::add_reclaimed(outcome.freed_bytes);
    const int64_t rest = wanted - outcome.freed_bytes;
    // Runtimes do their part when this thread is back in theirs.
    if (rest > 0) participants::begin_round(pass, began_ns, false);
    if (rest > 0 && hooks::count(MEMLIMIT_POLL) > 0) poller::want_explicit(rest);
    if (rest > 0 && hooks::count(MEMLIMIT_ASYNC) > 0) {
      service::start();
      requests::want_explicit(rest);
      service::wake();
      requests::wait_for_explicit(began_ns, kExplicitWaitNs);
    }
    allocator().publish_own(true);
    const int64_t usage_after = account::published_usage_bytes();
    freed = std::max<int64_t>(usage_before - usage_after, outcome.freed_bytes);
    const int64_t duration_ns = os::monotonic_ns() - began_ns;
    counters::observe_round(duration_ns, freed);
    emit(EventKind::kRound, number, bytes, freed, duration_ns);
  }
  freed += purge_now();
  return freed;
}

}  // namespace memlimit::explicit_reclaim
