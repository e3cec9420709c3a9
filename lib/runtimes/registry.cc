/* See registry.h. A lock guards the table and the open round; it is never held while a runtime reclaims. */
#include "runtimes/registry.h"

#include <algorithm>
#include <cstring>

#include "engine/allocator.h"
#include "engine/decision.h"
#include "engine/look.h"
#include "engine/paced.h"
#include "engine/participants.h"
#include "engine/pressure.h"
#include "engine/round.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "observe/event_ring.h"
#include "pacing/ranking.h"
#include "runtimes/adapter.h"
#include "runtimes/adapters.h"
#include "runtimes/attached.h"
#include "runtimes/fall.h"
#include "runtimes/left_out.h"
#include "system/attributes.h"
#include "system/lock.h"
#include "system/os.h"

namespace memlimit::runtimes {
namespace {

constexpr size_t kCount = kAdapterCount;

/* Until there is real pressure a runtime is left alone for this many times as long as its last reclaim
 * took: 10 % of the time, then 25 %. Over the limit the limiter is the only brake. */
constexpr int64_t kRestModerate = 9;
constexpr int64_t kRestCritical = 3;

/* Identities of the rows: the program's hooks have 256 and more. */
constexpr uint64_t kFirstRowId = 0xf0;

/* After the first safe point of a round others (V8 has one for each thread) may join in for so long. */
constexpr int64_t kJoinNs = 100'000'000;

struct Slot {
  hooks::Tally tally;
  int64_t rest_until_ns[2] = {}; /* at level moderate, at level critical */
  int64_t asked_again_ns = 0;    /* at any level not before (Outcome::rest_ns) */
  uint64_t wanted_round = 0;     /* the round in which it is asked */
};

struct OpenRound {
  hooks::Pass pass;
  int64_t began_ns = 0;
  int64_t freed_bytes = 0;
  int64_t ended_ns = 0; /* when the first runtime was through; 0: none yet */
  bool ends_round = false;
};

constinit MEMLIMIT_FORK_DATA Lock table_lock{LockRank::kAdapters};
constinit Slot slots[kCount] MEMLIMIT_GUARDED_BY(table_lock){};
constinit OpenRound open MEMLIMIT_GUARDED_BY(table_lock){};
constinit MEMLIMIT_FORK_DATA Level last_level MEMLIMIT_GUARDED_BY(table_lock) = Level::kLow;

constinit MEMLIMIT_FORK_DATA std::atomic<uint64_t> open_number{0}; /* 0: no round is open */

/* A bit for each adapter that the service thread is to run for a round. Not reset by fork where nothing is attached, as
 * the slots. */
constinit std::atomic<uint32_t> to_run_set{0};

/* A bit for each adapter whose help() is wanted. */
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> to_help_set{0};

/* The last round in which this thread asked its runtime, and in which it arrived at the safe point. */
struct ThreadRounds {
  uint64_t asked = 0;
  uint64_t arrived = 0;
  /* The runtime reclaims on this thread. It then asks for nothing: runtimes run their callbacks until none
   * is left, so one that is asked for while another runs would be followed by the next, and the program
   * never go on. */
  bool reclaiming = false;
};
MEMLIMIT_TLS ThreadRounds thread_rounds{};

bool may_reclaim(const Slot& slot, const hooks::Pass& pass, int64_t now_ns) noexcept {
  if (pass.everything) return true;
  const int64_t headroom = pass.limit_bytes - pass.usage_bytes;
  if (!pass.pacer_backs_off && !hook_due(slot.tally.figures, pass.round, headroom)) return false;
  if (now_ns < slot.asked_again_ns) return false;
  if (pass.level >= Level::kOver) return true;
  return now_ns >= slot.rest_until_ns[pass.level == Level::kCritical ? 1 : 0];
}

/* Whether this adapter is to reclaim for the open round on this thread. */
bool is_due(size_t index) noexcept MEMLIMIT_REQUIRES(table_lock) {
  const uint64_t number = open_number.load(std::memory_order_relaxed);
  if (number == 0 || slots[index].wanted_round != number) return false;
  if (thread_rounds.arrived == number) return false;
  return open.ended_ns == 0 || os::monotonic_ns() - open.ended_ns <= kJoinNs;
}

/* The open round, if so. */
bool take_part(size_t index, OpenRound* round) noexcept {
  LockGuard guard(table_lock);
  if (!is_due(index)) return false;
  thread_rounds.arrived = open_number.load(std::memory_order_relaxed);
  *round = open;
  return true;
}

Work work_of(const OpenRound& round, int64_t wanted_bytes) noexcept {
  const hooks::Pass& pass = round.pass;
  return {pass.level, wanted_bytes, pass.usage_bytes, pass.limit_bytes, pass.everything};
}

/* True when it falls to the caller to end the round: once. */
bool note_end(const OpenRound& round, int64_t freed_bytes) noexcept {
  LockGuard guard(table_lock);
  if (open_number.load(std::memory_order_relaxed) != round.pass.round) return false;
  open.freed_bytes += freed_bytes;
  if (open.ended_ns == 0) open.ended_ns = os::monotonic_ns();
  const bool ends = open.ends_round;
  open.ends_round = false;
  return ends;
}

void close_round(uint64_t number) noexcept {
  open_number.compare_exchange_strong(number, 0, std::memory_order_relaxed);
}

struct Measured {
  int64_t freed_bytes;
  int64_t elapsed_ns;
  int64_t end_ns;
};

void record(size_t index, const OpenRound& round, int64_t wanted_bytes, const Outcome& outcome,
            const Measured& measured) noexcept {
  LockGuard guard(table_lock);
  Slot& slot = slots[index];
  slot.tally.add(outcome.ran, measured.freed_bytes, measured.elapsed_ns);
  slot.asked_again_ns = measured.end_ns + outcome.rest_ns;
  slot.rest_until_ns[0] = measured.end_ns + kRestModerate * measured.elapsed_ns;
  slot.rest_until_ns[1] = measured.end_ns + kRestCritical * measured.elapsed_ns;
  if (!outcome.ran || outcome.started) {
    hook_cannot_now(slot.tally.figures, round.pass.round);
    return;
  }
  // Memory that is free again inside the runtime forestalls growth, though nothing shows it.
  const int64_t of_use = std::max(measured.freed_bytes, outcome.recycled_bytes);
  hook_ran(slot.tally.figures, {round.pass.round, wanted_bytes, of_use, measured.elapsed_ns, false,
                                round.pass.limit_bytes - round.pass.usage_bytes});
}

bool reclaim_wanted() noexcept { return to_run_set.load(std::memory_order_relaxed) != 0; }

bool service_wanted() noexcept {
  return discovery::is_due() || to_help_set.load(std::memory_order_relaxed) != 0 ||
         reclaim_wanted();
}

void notice_all() noexcept {
  for (size_t i = 0; i < kCount; ++i) {
    if (attached::is(i) && kAdapters[i]->notice != nullptr) kAdapters[i]->notice();
  }
}

void serve(const service::Turn&) noexcept {
  static constinit bool to_notice = false; /* the service thread's, or of who stands in for it */
  if (discovery::is_due()) {
    discovery::run();
    to_notice = true;
  }
  if (service::lacks_room()) return;
  if (to_notice) notice_all();
  to_notice = false;
  if (to_help_set.load(std::memory_order_relaxed) == 0) return;
  uint32_t to_help = to_help_set.exchange(0, std::memory_order_acquire);
  for (; to_help != 0; to_help &= to_help - 1) kAdapters[__builtin_ctz(to_help)]->help();
}

bool grows_unseen() noexcept {
  for (size_t i = 0; i < kCount; ++i) {
    if (kAdapters[i]->grows_unseen && attached::is(i)) return true;
  }
  return false;
}

void visit_soon() noexcept {
  for (size_t i = 0; i < kCount; ++i) {
    if (kAdapters[i]->visit_soon != nullptr && attached::takes_part(i)) kAdapters[i]->visit_soon();
  }
}

void ask_if_wanted() noexcept {
  for (size_t i = 0; i < kCount; ++i) {
    if (kAdapters[i]->prepare != nullptr && attached::takes_part(i)) kAdapters[i]->prepare();
  }
  const uint64_t number = open_number.load(std::memory_order_acquire);
  if (number == 0 || thread_rounds.asked == number || thread_rounds.reclaiming) return;
  const int64_t now_ns = os::monotonic_ns();
  bool settled = true;
  for (size_t i = 0; i < kCount; ++i) {
    if (!attached::takes_part(i) || kAdapters[i]->ask == nullptr) continue;
    if (kAdapters[i]->ask(now_ns) == Asked::kNotNow) settled = false;
  }
  if (settled) thread_rounds.asked = number;
}

/* Those that reclaim on the service thread are asked when there is one. */
bool is_served(size_t index) noexcept {
  if (kAdapters[index]->ask != nullptr) return true;
  service::start();
  return service::running();
}

bool begin_round(const hooks::Pass& pass, int64_t began_ns, bool ends_round) noexcept {
  if (!attached::any()) return false;
  uint32_t reachable = 0;
  for (size_t i = 0; i < kCount; ++i) {
    if (attached::takes_part(i) && is_served(i)) reachable |= uint32_t{1} << i;
  }
  uint32_t to_run = 0, to_help = 0;
  bool due = false;
  {
    LockGuard guard(table_lock);
    const bool level_rose = pass.level > last_level;
    last_level = pass.level;
    for (size_t i = 0; i < kCount; ++i) {
      if ((reachable >> i & 1) == 0) continue;
      Slot& slot = slots[i];
      if (level_rose) hook_recover(slot.tally.figures);
      if (!may_reclaim(slot, pass, began_ns)) continue;
      slot.wanted_round = pass.round;
      if (kAdapters[i]->ask == nullptr) to_run |= uint32_t{1} << i;
      if (kAdapters[i]->helps_in_rounds) to_help |= uint32_t{1} << i;
      due = true;
    }
    if (due) {
      open = {pass, began_ns, 0, 0, ends_round};
      open_number.store(pass.round, std::memory_order_release);
    }
  }
  if (to_run != 0) to_run_set.fetch_or(to_run, std::memory_order_release);
  if (to_help != 0) to_help_set.fetch_or(to_help, std::memory_order_release);
  if ((to_run | to_help) != 0) service::wake();
  if (due) ask_if_wanted();
  return due;
}

size_t rows(HookRow* out, size_t cap) noexcept {
  LockGuard guard(table_lock);
  size_t filled = 0;
  for (size_t i = 0; i < kCount && filled < cap; ++i) {
    if (!attached::takes_part(i)) continue;
    const Slot& slot = slots[i];
    HookRow& row = out[filled++];
    row = {};
    strncpy(row.name, kAdapters[i]->name, sizeof row.name - 1);
    row.id = kFirstRowId + i;
    row.context = kContextSafePoint;
    slot.tally.fill(row);
  }
  return filled;
}

hooks::Sums sums() noexcept {
  LockGuard guard(table_lock);
  hooks::Sums sum{};
  for (const Slot& slot : slots) sum += slot.tally.sums();
  return sum;
}

void limit_changed() noexcept {
  for (size_t i = 0; i < kCount; ++i) {
    if (attached::is(i) && kAdapters[i]->limit_changed != nullptr) kAdapters[i]->limit_changed();
  }
}

MEMLIMIT_COLD void reset_attached() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  for (Slot& slot : slots) slot = {};
  open = {};
  to_run_set.store(0, std::memory_order_relaxed);
  for (const Adapter* adapter : kAdapters) adapter->reset_after_fork();
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  table_lock.reset_after_fork();
  // Otherwise nothing was ever written there: pages that nobody has touched.
  if (attached::any()) reset_attached();
  to_help_set.store(0, std::memory_order_relaxed);
  last_level = Level::kLow;
  open_number.store(0, std::memory_order_relaxed);
  thread_rounds = {};
}

void run_reclaims(const service::Turn&) noexcept {
  if (!reclaim_wanted() || service::lacks_room()) return;
  uint32_t to_run = to_run_set.exchange(0, std::memory_order_acquire);
  for (; to_run != 0; to_run &= to_run - 1) {
    const service::Away away;
    arrive(*kAdapters[__builtin_ctz(to_run)]);
  }
  // What was freed may have changed the level, and another round may be due already.
  if (pressure::active()) look::now(true);
}

constexpr Participant kParticipant{
    .present = attached::any,
    .grows_unseen = grows_unseen,
    .begin_round = begin_round,
    .visit_soon = visit_soon,
    .ask_if_wanted = ask_if_wanted,
    .wants_service = service_wanted,
    .limit_changed = limit_changed,
    .rows = rows,
    .sums = sums,
    .count = attached::count,
    .left_out = left_out::tell,
    .name_of = left_out::name_of,
};

}  // namespace

void configure(const Config& config, const LoaderCalls& calls) noexcept {
  attached::configure(config);
  discovery::begin(calls);
  participants::add(kParticipant);
}

void request_help(const Adapter& adapter) noexcept {
  to_help_set.fetch_or(uint32_t{1} << attached::number_of(adapter), std::memory_order_release);
  service::wake();
}

bool is_wanted(const Adapter& adapter, Work* work) noexcept {
  LockGuard guard(table_lock);
  if (!is_due(attached::number_of(adapter))) return false;
  *work = work_of(open, open.pass.wanted_bytes);
  return true;
}

void arrive(const Adapter& adapter) {
  const size_t index = attached::number_of(adapter);
  OpenRound round;
  if (!take_part(index, &round)) return;
  const uint64_t number = round.pass.round;
  const int64_t wanted = round::wanted_at_safe_point(round.pass, round.freed_bytes);
  if (wanted <= 0) {
    if (note_end(round, 0)) decision::round_was_skipped();
    close_round(number);
    return;
  }
  const int pid = os::process_id();
  const int thread = os::thread_id();
  const int64_t begin_ns = os::monotonic_ns();
  const int64_t cpu_before_ns = os::thread_cpu_ns();
  const int64_t own_before = allocator().own_net_freed();
  const Fall fall;
  const Work work = work_of(round, wanted);
  // Of the thread that it begins on: where a finaliser waits, Ruby may go on on another thread of its pool.
  bool* const reclaiming = &thread_rounds.reclaiming;
  *reclaiming = true;
  const Outcome outcome = adapter.reclaim(work);
  *reclaiming = false;
  // A finaliser forked, and this is the child: the round is the parent's.
  if (os::process_id() != pid) return;
  const bool moved = os::thread_id() != thread;
  const int64_t reclaimed_ns = os::monotonic_ns();
  int64_t own = moved ? 0 : allocator().own_net_freed() - own_before;
  const int64_t cpu_ns = (moved ? reclaimed_ns - begin_ns : os::thread_cpu_ns() - cpu_before_ns) +
                         outcome.parallel_cpu_ns;
  int64_t fallen = 0;
  if (outcome.frees_follow) {
    fallen = fall.wait(round.pass.everything ? 0 : wanted, outcome.released_bytes);
    own = std::max(own, fall.of_usage_bytes());
  }
  const int64_t waited_ns = os::monotonic_ns() - reclaimed_ns;
  round::purge_after_runtime(own); /* and reads the footprint */
  const int64_t end_ns = os::monotonic_ns();
  const int64_t elapsed_ns = end_ns - begin_ns - waited_ns;
  const int64_t freed = std::max({int64_t{0}, own, fallen, fall.of_footprint_bytes()});
  record(index, round, wanted, outcome, {freed, elapsed_ns, end_ns});
  emit(EventKind::kAdapterRan, static_cast<int64_t>(index), static_cast<int64_t>(number), freed,
       elapsed_ns);
  const bool ends = note_end(round, freed);
  const bool counts = outcome.ran && !outcome.started;
  round::safe_point_ran(round.pass, round.began_ns, freed, cpu_ns, ends, counts);
}

constinit const service::Task kTask{
    .begin =
        []() noexcept {
          if (warns_of_threads_after_fork()) service::stay_aside_after_fork();
        },
    .run = serve,
};

constinit const service::Task kReclaimTask{
    .run = run_reclaims,
    .has_work = reclaim_wanted,
    .needs_room = attached::any,
    .goes_away = true,
};

constinit const fork::Part kForkPart{"runtimes", fork::hold<table_lock>, fork::let_go<table_lock>,
                                     reset_after_fork};

}  // namespace memlimit::runtimes
