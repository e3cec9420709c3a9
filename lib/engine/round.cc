/* See round.h. */
#include "engine/round.h"

#include <algorithm>

#include "engine/counters.h"
#include "engine/footprint.h"
#include "engine/paced.h"
#include "engine/participants.h"
#include "engine/poller.h"
#include "engine/purge.h"
#include "engine/requests.h"
#include "engine/service.h"
#include "observe/event_ring.h"
#include "system/os.h"

namespace memlimit::round {
namespace {

/* A hook's deadline, from its call. Long enough for a cache to evict megabytes, short enough that a
 * hang is told while somebody is looking. */
constexpr int64_t kHookBudgetNs = 100'000'000;

/* What freed less than this leaves nothing to purge. */
constexpr int64_t kPurgeFreedBytes = 256 << 10;

/* How old the group's figure may be at the end of a round; read at most this often by rounds. */
constexpr int64_t kRoundMaxAgeNs = 1'000'000;

int64_t everything_wanted(const hooks::Pass& pass, int64_t freed_bytes) noexcept {
  return pass.wanted_bytes - freed_bytes;
}

}  // namespace

void tell_overruns(int64_t now_ns) noexcept {
  hooks::Overrun overrun;
  while (hooks::take_overrun(now_ns, &overrun)) {
    emit(EventKind::kHookOverran, overrun.slot, static_cast<int64_t>(overrun.round),
         overrun.ran_ns);
    const bool others =
        hooks::count(MEMLIMIT_INLINE) > 0 || hooks::count(MEMLIMIT_POLL) > 0 || participants::any();
    // They are not to wait until the round counts as lost.
    if (overrun.context == MEMLIMIT_ASYNC && others && service::is_stuck()) {
      decision::round_was_skipped();
    }
  }
}

int64_t still_wanted(const hooks::Pass& pass, int64_t freed_bytes) noexcept {
  return memlimit::still_wanted(pass.wanted_bytes, freed_bytes, pass.own_bytes, paced::own_bytes(),
                                pass.deepest_fall_bytes);
}

hooks::Pass make_pass(int64_t round, int64_t wanted_bytes, Level level,
                      const PacerInput& input) noexcept {
  hooks::Pass pass;
  pass.round = static_cast<uint64_t>(round);
  pass.wanted_bytes = wanted_bytes;
  pass.usage_bytes = input.paced_bytes;
  pass.own_bytes = paced::own_bytes();
  pass.deepest_fall_bytes = deepest_fall(input.paced_bytes, input.limit_bytes);
  pass.limit_bytes = input.limit_bytes;
  pass.level = level;
  pass.pacer_backs_off = decision::backs_off();
  pass.budget_ns = kHookBudgetNs;
  pass.still_wanted = still_wanted;
  return pass;
}

void ask_for_everything(hooks::Pass* pass) noexcept {
  pass->everything = true;
  pass->still_wanted = everything_wanted;
}

hooks::Outcome run_hooks(int context, const hooks::Pass& pass) noexcept {
  if (hooks::count(context) == 0) return {};
  const counters::ReclaimCpu cpu;
  const hooks::Outcome outcome = hooks::run(context, pass);
  // In the child of a fork the figures began anew.
  if (!outcome.forked) cpu.stop();
  return outcome;
}

void begin(const decision::Begun& begun, const PacerInput& input) noexcept {
  if (!begun.due) return;
  const int64_t began_ns = os::monotonic_ns();
  tell_overruns(began_ns);
  const hooks::Pass pass = make_pass(begun.round, begun.wanted_bytes, begun.level, input);
  const hooks::Outcome inline_outcome = run_hooks(MEMLIMIT_INLINE, pass);
  const int64_t rest = still_wanted(pass, inline_outcome.freed_bytes);
  const bool asks_async = rest > 0 && hooks::count(MEMLIMIT_ASYNC) > 0;
  // Needed now, also when it has just stepped aside.
  if (asks_async) service::start();
  const bool async = asks_async && service::running();
  // Its pass is kept for when the hook returns, and others need not wait for it.
  const bool stuck = async && service::is_stuck();
  const bool polled = rest > 0 && hooks::count(MEMLIMIT_POLL) > 0;
  if (async) {
    requests::want_pass(rest);
    service::wake();
  }
  if (polled) poller::want(rest);
  const bool spares_runtimes = !begun.asks_runtimes && participants::any();
  const bool at_safe_point =
      rest > 0 && !spares_runtimes &&
      participants::begin_round(pass, began_ns, (!async || stuck) && !polled);
  const bool ends_without_async = stuck && inline_outcome.calls > 0;
  const bool others = (async && !ends_without_async) || polled || at_safe_point;
  // INLINE hooks that are all busy on other threads, and runtimes whose time has not come, were not asked:
  // that says nothing about them.
  const bool nobody_asked =
      inline_outcome.calls == 0 && (inline_outcome.busy > 0 || spares_runtimes);
  // Whoever runs last ends the round; with ASYNC and POLL hooks both, the service thread does.
  if (!others && nobody_asked) {
    decision::round_was_skipped();
  } else if (!others) {
    end(begun.round, begun.wanted_bytes, inline_outcome.freed_bytes, inline_outcome.answered(),
        began_ns);
  } else if (inline_outcome.freed_bytes > 0) {
    counters::add_reclaimed(inline_outcome.freed_bytes);
    decision::round_is_partly_done(inline_outcome.freed_bytes);
  }
}

void end(int64_t round, int64_t wanted_bytes, int64_t freed_bytes, bool answered,
         int64_t began_ns) noexcept {
  // What was paced when the round began does not know of it; and where idle pages are paced, what hooks freed counts for
  // nothing until it is with the kernel.
  if (paced::idle_counts() && freed_bytes >= kPurgeFreedBytes) {
    purge::run_turn(purge::Depth::kAll);
  } else if (paced::mode() != AccountMode::kHeap) {
    paced::read(service::running(), kRoundMaxAgeNs);
  }
  const int64_t now_ns = os::monotonic_ns();
  counters::add_reclaimed(freed_bytes);
  counters::observe_round(now_ns - began_ns, freed_bytes);
  const decision::News news = decision::round_ended(wanted_bytes, freed_bytes, answered, now_ns);
  emit(EventKind::kRound, round, wanted_bytes, freed_bytes, now_ns - began_ns);
  decision::tell(news);
}

int64_t wanted_at_safe_point(const hooks::Pass& pass, int64_t freed_bytes) noexcept {
  footprint::read();
  return still_wanted(pass, freed_bytes);
}

int64_t purge_after_runtime(int64_t freed_bytes) noexcept {
  os::ErrnoGuard errno_guard;
  if (freed_bytes >= kPurgeFreedBytes) {
    purge::run_turn(purge::Depth::kLargePieces);
  } else {
    footprint::read();
  }
  return paced::footprint_bytes();
}

void safe_point_ran(const hooks::Pass& pass, int64_t began_ns, int64_t freed_bytes, int64_t cpu_ns,
                    bool ends, bool counts) noexcept {
  os::ErrnoGuard errno_guard;
  counters::add_reclaim_cpu(cpu_ns);
  if (ends && counts) {
    end(static_cast<int64_t>(pass.round), pass.wanted_bytes, freed_bytes, true, began_ns);
    return;
  }
  counters::add_reclaimed(freed_bytes);
  if (ends) {
    decision::round_was_skipped();
  } else {
    decision::round_is_partly_done(freed_bytes);
  }
}

}  // namespace memlimit::round
