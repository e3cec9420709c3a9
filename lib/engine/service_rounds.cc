/* See service_rounds.h. */
#include "engine/service_rounds.h"

#include <algorithm>

#include "engine/allocator.h"
#include "engine/assist.h"
#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/footprint.h"
#include "engine/hooks.h"
#include "engine/look.h"
#include "engine/pressure.h"
#include "engine/purge.h"
#include "engine/requests.h"
#include "engine/round.h"
#include "system/os.h"

namespace memlimit::service_rounds {
namespace {

/* A step of a pass asks for at most this share of the limit, so that threads which wait for the step
 * (and hooks which hold a lock for as long as they evict) go on after a millisecond or so. Measured at 256
 * MiB: with steps of 4 MiB a hook needs half as long again for each byte, for its caches are cold. */
constexpr int64_t kStepDivisor = 256;

constexpr int64_t kStepMinBytes = int64_t{256} << 10;

/* Step by step, until enough is free or the hooks have no more; returns what came of all of them. */
hooks::Outcome run_steps(int64_t round, int64_t wanted_bytes) noexcept {
  const hooks::Pass all =
      round::make_pass(round, wanted_bytes, pressure::level(), decision::sample());
  const int64_t step_bytes = std::max(all.limit_bytes / kStepDivisor, kStepMinBytes);
  hooks::Outcome sum;
  for (;;) {
    const int64_t rest = round::still_wanted(all, sum.freed_bytes);
    if (rest <= 0) return sum;
    hooks::Pass pass =
        round::make_pass(round, std::min(rest, step_bytes), pressure::level(), decision::sample());
    const hooks::Outcome outcome = hooks::run(MEMLIMIT_ASYNC, pass);
    sum.forked = outcome.forked;
    sum.calls += outcome.calls;
    sum.skips += outcome.skips;
    sum.freed_bytes += outcome.freed_bytes;
    if (outcome.forked) return sum;
    // For whoever waits for it.
    allocator().publish_own(true);
    assist::step_done(outcome.freed_bytes);
    // Hooks that gave next to nothing in this step have nothing for the next: nothing at all when a few bytes are
    // wanted, of which an eighth is none.
    if (outcome.freed_bytes <= pass.wanted_bytes / 8) return sum;
  }
}

/* One pass of the ASYNC hooks, on the service thread. */
void run_async(int64_t wanted_bytes) noexcept {
  static constinit bool ends_at_exit = false;
  if (!ends_at_exit) hooks::end_before_what_exists();
  ends_at_exit = true;
  const int64_t round = counters::rounds();
  const int64_t began_ns = os::monotonic_ns();
  const counters::ReclaimCpu cpu;
  hooks::Outcome outcome;
  {
    const service::Away away;
    outcome = run_steps(round, wanted_bytes);
  }
  if (outcome.forked) return;
  cpu.stop();
  round::end(round, wanted_bytes, outcome.freed_bytes, outcome.answered(), began_ns);
}

/* All that the ASYNC hooks can give, because somebody asked; the pacer is not told. */
void run_explicit(int64_t wanted_bytes) noexcept {
  const int64_t round = counters::rounds();
  hooks::Pass pass = round::make_pass(round, wanted_bytes, pressure::level(), decision::sample());
  round::ask_for_everything(&pass);
  const service::Away away;
  const hooks::Outcome outcome = round::run_hooks(MEMLIMIT_ASYNC, pass);
  if (outcome.forked) return;
  counters::add_reclaimed(outcome.freed_bytes);
}

void serve_passes(const service::Turn&) noexcept {
  if (!requests::any_pass() || service::lacks_room()) return;
  requests::begin_pass();
  const int64_t wanted = requests::take_pass();
  if (wanted != 0) {
    // Again: the end of the pass before may have come between the request and the figure.
    assist::work_requested();
    run_async(wanted);
  }
  // Taken before the hooks run: who asks meanwhile is asking for another pass. begin_pass() came before,
  // so that reclaim_now(), which finds its request taken, waits for the end of this one.
  if (const int64_t asked = requests::take_explicit()) {
    run_explicit(asked);
  }
  requests::end_pass();
  // What the hooks freed may have changed the level, and another round may be due already.
  if (pressure::active()) look::now(true);
}

void serve_looks(const service::Turn& turn) noexcept {
  round::tell_overruns(turn.now_ns);
  if (!requests::take_look()) return;
  // Without a limit, too: level and quantum are to be what they are without one.
  footprint::read();
  look::now(true);
}

void serve_purges(const service::Turn&) noexcept {
  if (!purge::is_due()) return;
  purge::serve();
  // The program may be done, and nobody else would see that the footprint has fallen.
  if (pressure::active()) look::now(true);
}

}  // namespace

constinit const service::Task kLookTask{
    .run = serve_looks,
    .has_work = requests::any_look,
    .due_ns = hooks::overrun_due_ns,
};

constinit const service::Task kPassTask{
    .enter = []() noexcept { assist::set_worker(os::thread_id()); },
    .run = serve_passes,
    .has_work = requests::any_pass,
    .needs_room = hooks::any,
    .goes_away = true,
};

constinit const service::Task kPurgeTask{
    .run = serve_purges,
    .has_work = purge::is_due,
    .due_ns = purge::due_ns,
};

}  // namespace memlimit::service_rounds
