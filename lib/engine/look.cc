/* The engine; see reclaim.h.
 *
 * One lock guards the pacer's and the limiter's state and is held for a decision only: never while a
 * hook runs, the allocator collects, or a thread waits. A thread that finds it taken goes on, because
 * whoever holds it is deciding on the same numbers; only a large request insists.
 */
#include "engine/look.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/account.h"
#include "engine/assist.h"
#include "engine/hooks.h"
#include "engine/paced.h"
#include "engine/participants.h"
#include "engine/purge.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "observe/event_ring.h"
#include "pacing/limiter.h"
#include "pacing/overhead.h"
#include "pacing/purge_pacer.h"
#include "system/lock.h"
#include "system/os.h"
#include "system/procfs.h"

namespace memlimit::reclaim {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

/* The footprint is read once for this much that the program takes: 1/64 of the headroom, within these
 * bounds. A read costs 2 to 8 microseconds, touching a MiB for the first time a hundred. */
constexpr int64_t kFootprintEveryMinBytes = kMiB;
constexpr int64_t kFootprintEveryMaxBytes = 16 * kMiB;
constexpr int64_t kFootprintHeadroomDivisor = 64;

/* A request this large does not go on when the lock is taken: its round must follow at once. */
constexpr int64_t kInsistBytes = kMiB;

/* A hook's deadline, from its call. Long enough for a cache to evict megabytes, short enough that a
 * hang is told while somebody is looking. */
constexpr int64_t kHookBudgetNs = 100'000'000;

/* A runtime that freed less by its own thread than this leaves nothing to purge. */
constexpr int64_t kPurgeRuntimeBytes = 256 << 10;

/* memlimit_reclaim() waits this long for the service thread. */
constexpr int64_t kExplicitWaitNs = 10'000'000'000;

/* Rounds over the limit that brought next to nothing, in a row, until it is said that the limit cannot be
 * held: the pacer then asks so rarely that the limiter's bucket may never fill, and a leak would go
 * unannounced. */
constexpr int kHopelessRounds = 6;

/* The limiter's bucket holds a second of CPU time a core: it is asked at most this often. */
constexpr int64_t kLimiterEveryNs = 5'000'000;

/* How old the group's figure may be at the end of a round; read at most this often by rounds. */
constexpr int64_t kRoundMaxAgeNs = 1'000'000;

/* A service thread is worth having from this usage on: 4 MiB or 1/16 of the limit. */
constexpr int64_t kServiceUsageBytes = 4 * kMiB;
constexpr int64_t kServiceLimitDivisor = 16;
constexpr int64_t kServiceFootprintDivisor = 4;

/* What hooks freed is kept no longer than this (and until the service thread next wakes up) after the last pass: then
 * the program's load has ended. */
constexpr int64_t kKeptNs = 2'000'000'000;

/* Before configure() there is no allocator to ask, and statistics may be read. */
constinit AllocatorOps allocator{[]() noexcept {},
                                 [](Level) noexcept {},
                                 []() noexcept -> int64_t { return 0; },
                                 []() noexcept {},
                                 []() noexcept -> int64_t { return 0; },
                                 []() noexcept {},
                                 []() noexcept -> int64_t { return 0; }};
constinit int64_t start_ns = 0;
constinit int64_t invalid_settings = 0; /* from configure() on */

constinit Lock engine_lock{LockRank::kReclaim};
constinit PacerSettings settings MEMLIMIT_GUARDED_BY(engine_lock){};
constinit PacerState pacer MEMLIMIT_GUARDED_BY(engine_lock){};
constinit LimiterState limiter MEMLIMIT_GUARDED_BY(engine_lock){};
constinit int cores MEMLIMIT_GUARDED_BY(engine_lock) = 0; /* 0: not counted yet */
constinit PurgeState purge_state MEMLIMIT_GUARDED_BY(engine_lock){};
constinit OverheadState overhead_state MEMLIMIT_GUARDED_BY(engine_lock){};
/* The limit cannot be held because nothing is left to give; the limiter's state when it is its CPU time
 * that is used up. */
constinit bool hopeless MEMLIMIT_GUARDED_BY(engine_lock) = false;
constinit int64_t hopeless_episodes MEMLIMIT_GUARDED_BY(engine_lock) = 0;
constinit int64_t hopeless_needed MEMLIMIT_GUARDED_BY(engine_lock) = 0;
constinit int64_t hopeless_since_ns MEMLIMIT_GUARDED_BY(engine_lock) = 0;
constinit char limit_source[96] MEMLIMIT_GUARDED_BY(engine_lock){};

/* Read by every slow path, written rarely. */
struct alignas(64) Shared {
  std::atomic<int64_t> limit{0};
  std::atomic<bool> growth{false}; /* MEMLIMIT_GROWTH is set: rounds without a limit, too */
  std::atomic<int> level{0};
  std::atomic<int64_t> rss_anon{0};
  std::atomic<int64_t> rss_read_ns{INT64_MIN / 2};
  std::atomic<int64_t> footprint_due{0};           /* the clock at which to read it again */
  std::atomic<int64_t> mapped_ever{0};             /* by the program itself; monotonic */
  std::atomic<int64_t> was_near_at{INT64_MIN / 2}; /* the clock, when it last was near_limit() */
};
constinit Shared shared{};

/* What rounds have asked of other threads and not yet got. */
struct alignas(64) Pending {
  std::atomic<int64_t> async_wanted{0};
  std::atomic<int64_t> poll_wanted{0};
  std::atomic<int64_t> explicit_wanted{0};
  std::atomic<int64_t> explicit_poll_wanted{0};
  std::atomic<bool> poll_due{false}; /* something is wanted of poll(), or its descriptor readable */
  std::atomic<bool> look{false};     /* somebody found that more follows than could be done there */
  std::atomic<bool> async_running{false};
  std::atomic<bool> poll_running{false};
  std::atomic<uint32_t> passes_done{0}; /* futex: an async pass ended */
  std::atomic<uint32_t> waiting{0};     /* threads that wait for it */
};
constinit Pending pending{};

struct Counters {
  std::atomic<int64_t> rounds{0};
  std::atomic<int64_t> reclaimed{0};
  std::atomic<int64_t> overshoot_peak{0};
  std::atomic<int64_t> oversized{0};
  std::atomic<int64_t> reclaim_cpu_ns{0};
  std::atomic<int64_t> forks{0};
};
constinit Counters counters{};

constinit Histogram round_histogram{kDurationShape};
constinit Histogram freed_histogram{kBytesShape};

constinit std::atomic<int> poll_descriptor{-1};

void raise(std::atomic<int64_t>& highest, int64_t value) noexcept {
  int64_t seen = highest.load(std::memory_order_relaxed);
  while (value > seen && !highest.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

/* Adds a request to those that wait: the larger counts. It writes in any case, so that whoever takes what is
 * wanted from here on takes this request with it. */
void ask_for(std::atomic<int64_t>& wanted, int64_t bytes) noexcept {
  int64_t seen = wanted.load(std::memory_order_relaxed);
  while (!wanted.compare_exchange_weak(seen, std::max(seen, bytes), std::memory_order_acq_rel,
                                       std::memory_order_relaxed)) {
  }
}

/* What pacing takes for time: bytes that the program took, by malloc or by mmap. */
int64_t clock_bytes() noexcept {
  return account::published_allocated_bytes() + shared.mapped_ever.load(std::memory_order_relaxed);
}

PacerInput sample() noexcept {
  const bool shared_with_others = paced::mode() == AccountMode::kCgroup;
  return {paced::bytes(), shared.limit.load(std::memory_order_relaxed), clock_bytes(),
          account::quantum_bytes(), shared_with_others ? paced::held_bytes() : -1};
}

int64_t still_wanted_now(const hooks::Pass& pass, int64_t freed_bytes) noexcept {
  return still_wanted(pass.wanted_bytes, freed_bytes, pass.own_bytes, paced::own_bytes(),
                      pass.deepest_fall_bytes);
}

int64_t everything_wanted(const hooks::Pass& pass, int64_t freed_bytes) noexcept {
  return pass.wanted_bytes - freed_bytes;
}

int64_t slack_bytes(int64_t limit) noexcept {
  return slack_for(limit, paced::room_above_bytes(limit));
}

void footprint_is_over(int64_t limit) noexcept {
  if (!paced::set_footprint_over(true)) return;
  emit(EventKind::kFootprint, paced::bytes_with_idle(), account::published_usage_bytes(), limit);
}

void note_footprint(int64_t footprint) noexcept {
  const int64_t limit = shared.limit.load(std::memory_order_relaxed);
  if (footprint < 0) return;
  const int64_t with_idle = paced::bytes_with_idle();
  if (limit == 0 || with_idle <= limit) {
    paced::set_footprint_over(false);
  } else if (paced::mode() == AccountMode::kCgroup && with_idle > limit + slack_bytes(limit)) {
    // Others share the room that is left: no time to try a purge first.
    footprint_is_over(limit);
  }
}

void read_footprint() noexcept {
  // A process too small for a service thread keeps no descriptor open either.
  note_footprint(paced::read(service::running()));
}

void read_footprint_if_due() noexcept {
  const int64_t clock = clock_bytes();
  int64_t due = shared.footprint_due.load(std::memory_order_relaxed);
  if (clock < due) return;
  const int64_t headroom = shared.limit.load(std::memory_order_relaxed) - paced::bytes();
  const int64_t every = std::clamp(headroom / kFootprintHeadroomDivisor, kFootprintEveryMinBytes,
                                   kFootprintEveryMaxBytes);
  // One thread reads, the others go on with the last figure.
  if (shared.footprint_due.compare_exchange_strong(due, clock + every, std::memory_order_relaxed)) {
    read_footprint();
  }
}

void add_reclaim_cpu(int64_t cpu_ns) noexcept {
  counters.reclaim_cpu_ns.fetch_add(cpu_ns, std::memory_order_relaxed);
}

/* What this thread takes from here on is reclaim's, until stop(). One pair of readings (a system call
 * each) for all hooks of a pass. */
class ReclaimCpu {
 public:
  ReclaimCpu() noexcept : began_ns_(os::thread_cpu_ns()) {}
  void stop() const noexcept { add_reclaim_cpu(os::thread_cpu_ns() - began_ns_); }

 private:
  int64_t began_ns_;
};

hooks::Outcome run_hooks(int context, const hooks::Pass& pass) noexcept {
  if (hooks::count(context) == 0) return {};
  const ReclaimCpu cpu;
  const hooks::Outcome outcome = hooks::run(context, pass);
  // In the child of a fork the figures began anew.
  if (!outcome.forked) cpu.stop();
  return outcome;
}

int64_t reclaim_cpu_ns() noexcept {
  return counters.reclaim_cpu_ns.load(std::memory_order_relaxed) + purge::cpu_ns();
}

PurgeInput purge_input() noexcept {
  const int64_t limit = shared.limit.load(std::memory_order_relaxed);
  // Not idle: usage rises into what is kept before anything more is held.
  const int64_t kept = allocator.kept_bytes();
  return {limit,
          account::published_usage_bytes(),
          paced::held_bytes() - kept,
          paced::bytes_with_idle() - kept,
          slack_bytes(limit),
          clock_bytes(),
          purge::purged_bytes(),
          account::thread_count()};
}

/* To a 64th of the limit, so that threads do not take the line from one another. */
void note_near_limit(const PurgeInput& in) noexcept {
  if (!near_limit(in)) return;
  const int64_t noted = shared.was_near_at.load(std::memory_order_relaxed);
  if (in.allocated_bytes - noted <= in.limit_bytes / 64) return;
  shared.was_near_at.store(in.allocated_bytes, std::memory_order_relaxed);
}

/* On the service thread, which purges last: what the threads did is part of it. */
void note_purged(int64_t given_bytes) noexcept {
  LockGuard guard(engine_lock);
  purge_gave(purge_state, shared.limit.load(std::memory_order_relaxed), given_bytes);
}

bool active() noexcept {
  return shared.limit.load(std::memory_order_relaxed) > 0 ||
         shared.growth.load(std::memory_order_relaxed);
}

/* What the limiter did, copied out of the lock to be told outside it. */
struct LimiterNews {
  LimiterChange change = LimiterChange::kNone;
  int64_t needed_bytes = 0;
  int64_t skipped = 0;
  int64_t since_ns = 0;
};

/* Both reasons to let the limit go. */
struct News {
  LimiterNews limiter;
  LimiterNews hopeless;
};

LimiterNews update_limiter(int64_t now_ns) noexcept MEMLIMIT_REQUIRES(engine_lock) {
  LimiterNews news;
  if (!active()) {
    news.change = limiter_release(limiter);
  } else if (!limiter.started || now_ns - limiter.now_ns >= kLimiterEveryNs) {
    if (cores == 0) cores = os::cpu_count();
    news.change = limiter_update(limiter, now_ns, os::process_cpu_ns(), reclaim_cpu_ns(), cores,
                                 assist::waited_ns());
  }
  news.needed_bytes = limiter.needed_bytes;
  news.skipped = limiter.skipped;
  news.since_ns = limiter.on_since_ns;
  return news;
}

/* The same news for a limit that is out of reach. */
LimiterNews update_hopeless(int64_t now_ns, int64_t paced) noexcept MEMLIMIT_REQUIRES(engine_lock) {
  LimiterNews news;
  const int64_t limit = shared.limit.load(std::memory_order_relaxed);
  const bool over = limit > 0 && paced > limit;
  // Beyond the margin: a program that is only just over may still come back by itself.
  const bool far_over = over && paced - limit > margin_for(limit);
  if (!hopeless && far_over && pacer.fruitless >= kHopelessRounds) {
    hopeless = true;
    hopeless_episodes += 1;
    hopeless_since_ns = now_ns;
    news.change = LimiterChange::kCameOn;
  } else if (hopeless && (!over || pacer.fruitless == 0)) {
    hopeless = false;
    news.change = LimiterChange::kWentOff;
  }
  if (hopeless) hopeless_needed = paced;
  news.needed_bytes = hopeless_needed;
  news.since_ns = hopeless_since_ns;
  return news;
}

/* While the limit is let go: whether that is over, which no round may be due to notice. */
News update_let_go(int64_t now_ns, int64_t paced) noexcept MEMLIMIT_REQUIRES(engine_lock) {
  News news;
  if (enabled(limiter)) news.limiter = update_limiter(now_ns);
  if (hopeless) news.hopeless = update_hopeless(now_ns, paced);
  return news;
}

void tell(const LimiterNews& news) noexcept {
  if (news.change == LimiterChange::kCameOn) {
    emit(EventKind::kLimiterOn, news.needed_bytes, limit_bytes());
    service::wake();
  } else if (news.change == LimiterChange::kWentOff) {
    emit(EventKind::kLimiterOff, news.skipped, os::monotonic_ns() - news.since_ns);
  }
}

void tell(const News& news) noexcept {
  tell(news.limiter);
  tell(news.hopeless);
}

/* Ends a round: tells the pacer and the limiter what came of it. */
void end_round(int64_t round, int64_t wanted_bytes, int64_t freed_bytes,
               int64_t began_ns) noexcept {
  // What was paced when the round began does not know of it.
  if (paced::mode() != AccountMode::kHeap) paced::read(service::running(), kRoundMaxAgeNs);
  const int64_t now_ns = os::monotonic_ns();
  counters.reclaimed.fetch_add(freed_bytes, std::memory_order_relaxed);
  round_histogram.observe(now_ns - began_ns);
  freed_histogram.observe(freed_bytes);
  News news;
  {
    LockGuard guard(engine_lock);
    const int64_t paced = paced::bytes();
    round_done(pacer, {wanted_bytes, freed_bytes, paced, clock_bytes()});
    limiter_round_done(limiter, paced);
    news.limiter = update_limiter(now_ns);
    news.hopeless = update_hopeless(now_ns, paced);
  }
  emit(EventKind::kRound, round, wanted_bytes, freed_bytes, now_ns - began_ns);
  tell(news);
}

void tell_overrun(int64_t now_ns, int64_t round) noexcept {
  int64_t ran_ns;
  const int slot = hooks::take_overrun(now_ns, &ran_ns);
  if (slot >= 0) emit(EventKind::kHookOverran, slot, round, ran_ns);
}

/* Sequentially consistent with poll_fd(): one of the two sees the other. */
void wake_poller() noexcept {
  pending.poll_due.store(true, std::memory_order_seq_cst);
  const int fd = poll_descriptor.load(std::memory_order_seq_cst);
  if (fd < 0) return;
  const uint64_t one = 1;
  os::write_all(fd, reinterpret_cast<const char*>(&one), sizeof one);
  // Once more: a poll() that came before the write has taken the request and left the descriptor readable.
  pending.poll_due.store(true, std::memory_order_release);
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
  pass.budget_ns = kHookBudgetNs;
  pass.still_wanted = still_wanted_now;
  return pass;
}

/* Somebody asked by memlimit_reclaim(): neither back-off nor a fall in usage counts. */
void ask_for_everything(hooks::Pass* pass) noexcept {
  pass->everything = true;
  pass->still_wanted = everything_wanted;
}

struct Begun {
  bool due = false;
  bool left = false; /* a round is due, and whoever looks next is to find that, too */
  bool purge = false;
  bool purges_in_vain = false;
  bool asks_runtimes = false;
  bool limit_let_go = false;
  int64_t round = 0;
  int64_t wanted_bytes = 0;
  Level level = Level::kLow;
  Level level_before = Level::kLow;
};

/* Once for each reading of the footprint. */
void note_overhead(int64_t limit) noexcept MEMLIMIT_REQUIRES(engine_lock) {
  const int64_t beyond = paced::take_beyond_usage();
  if (beyond < 0) return;
  const OverheadInput input{limit, paced::footprint_bytes(), beyond - allocator.kept_bytes()};
  paced::set_overhead(overhead(overhead_state, input));
}

/* Under the lock: asks the pacer, and the limiter when a round is due or the limit is let go. */
Begun decide(const PacerInput& input, bool may_begin, News* news) noexcept
    MEMLIMIT_REQUIRES(engine_lock) {
  note_overhead(input.limit_bytes);
  const PacerState before = pacer;
  const Decision decision = pace(settings, pacer, input);
  Begun begun;
  begun.limit_let_go = enabled(limiter) || hopeless;
  begun.level = decision.level;
  begun.level_before = static_cast<Level>(
      shared.level.exchange(static_cast<int>(decision.level), std::memory_order_relaxed));
  const PurgeInput purge_in = purge_input();
  const bool idle_presses = purge_worthwhile(purge_in);
  const bool reads_clock = decision.round_due || idle_presses || begun.limit_let_go;
  const int64_t now_ns = reads_clock ? os::monotonic_ns() : 0;
  if (idle_presses) begun.purge = purge_due(purge_state, purge_in, now_ns);
  begun.purges_in_vain = purges_in_vain(purge_state, purge_in, now_ns);
  if (begun.limit_let_go) {
    *news = update_let_go(now_ns, input.paced_bytes);
  } else if (decision.round_due) {
    news->limiter = update_limiter(now_ns);
  }
  if (!decision.round_due) return begun;
  if (enabled(limiter)) {
    limiter_round_skipped(limiter);
    round_skipped(pacer);
    return begun;
  }
  if (!may_begin) {
    pacer = before;
    begun.left = true;
    return begun;
  }
  begun.due = true;
  begun.asks_runtimes = asks_runtimes(settings, input.paced_bytes, input.limit_bytes);
  begun.wanted_bytes = decision.wanted_bytes;
  begun.round = counters.rounds.fetch_add(1, std::memory_order_relaxed) + 1;
  return begun;
}

/* The part of what was decided that needs neither a lock nor the heap. */
void follow(const Begun& begun, const PacerInput& input, const News& news) noexcept {
  account::set_quantum_bytes(
      quantum_for(input.limit_bytes, input.paced_bytes, account::thread_count()));
  purge::set_eagerness(purge_eagerness(purge_input()));
  if (begun.level != begun.level_before) {
    emit(EventKind::kLevel, static_cast<int>(begun.level_before), static_cast<int>(begun.level),
         input.paced_bytes, input.limit_bytes);
  }
  tell(news);
  if (begun.purges_in_vain) footprint_is_over(input.limit_bytes);
  if (begun.purge) purge::ask_all();
}

/* The other part, on the program's thread and with nothing locked. */
void begin(const Begun& begun, const PacerInput& input) noexcept {
  if (begun.purge) purge::collect_if_asked();
  if (!begun.due) return;
  const int64_t began_ns = os::monotonic_ns();
  tell_overrun(began_ns, begun.round);
  const hooks::Pass pass = make_pass(begun.round, begun.wanted_bytes, begun.level, input);
  const hooks::Outcome inline_outcome = run_hooks(MEMLIMIT_INLINE, pass);
  const int64_t rest = still_wanted_now(pass, inline_outcome.freed_bytes);
  const bool async = rest > 0 && hooks::count(MEMLIMIT_ASYNC) > 0 && service::running();
  const bool polled = rest > 0 && hooks::count(MEMLIMIT_POLL) > 0;
  if (async) {
    // Not added: the pacer has one round under way, and a later decision takes the place of a lost one.
    // Stored last, or the pass could be over before threads are told to wait for it.
    assist::work_requested();
    pending.async_wanted.store(rest, std::memory_order_release);
    service::wake();
  }
  if (polled) {
    pending.poll_wanted.store(rest, std::memory_order_release);
    wake_poller();
  }
  const bool spares_runtimes = !begun.asks_runtimes && participants::any();
  const bool at_safe_point =
      rest > 0 && !spares_runtimes && participants::begin_round(pass, began_ns, !async && !polled);
  const bool others = async || polled || at_safe_point;
  // INLINE hooks that are all busy on other threads, and runtimes whose time has not come, were not asked:
  // that says nothing about them.
  const bool nobody_asked =
      inline_outcome.calls == 0 && (inline_outcome.busy > 0 || spares_runtimes);
  // Whoever runs last ends the round; with ASYNC and POLL hooks both, the service thread does.
  if (!others && nobody_asked) {
    LockGuard guard(engine_lock);
    round_skipped(pacer);
  } else if (!others) {
    end_round(begun.round, begun.wanted_bytes, inline_outcome.freed_bytes, began_ns);
  } else if (inline_outcome.freed_bytes > 0) {
    counters.reclaimed.fetch_add(inline_outcome.freed_bytes, std::memory_order_relaxed);
    LockGuard guard(engine_lock);
    round_partly_done(pacer, inline_outcome.freed_bytes);
  }
}

/* Half of the room that the limit leaves in the container is used up: the kernel kills next. */
bool kernel_is_near() noexcept {
  const int64_t room = paced::room_bytes();
  const int64_t limit = shared.limit.load(std::memory_order_relaxed);
  return room >= 0 && room < (paced::bytes_with_idle() + room - limit) / 2;
}

PacerInput sample_for_look() noexcept {
  const PacerInput input = sample();
  if (input.limit_bytes > 0) raise(counters.overshoot_peak, input.paced_bytes - input.limit_bytes);
  return input;
}

/* Level critical begins half way from where usage rests to the limit. Whoever waits only over the limit has gone past it,
 * and what is held beyond usage comes on top. Measured, peak RSS of a ring at 300, 250 and 200 MiB: 1.02, 1.02 and 1.03
 * of the limit when waits begin at the limit, and 1.00, 1.00 and 1.01. */
void assist_if_critical(const Begun& begun) noexcept {
  if (begun.level >= Level::kCritical) assist::wait(!begun.limit_let_go && kernel_is_near());
}

/* Looks at usage, decides, and carries out. Inside malloc; the guard is set. */
void look(bool insist) noexcept {
  const PacerInput input = sample_for_look();
  if (insist) {
    engine_lock.lock();
  } else if (!engine_lock.try_lock()) {
    return;
  }
  News news;
  const Begun begun = decide(input, true, &news);
  engine_lock.unlock();
  follow(begun, input, news);
  begin(begun, input);
  assist_if_critical(begun);
}

/* The same where the thread may be anywhere, inside the allocator or our own locks: waits for no lock and
 * leaves the heap alone. False when somebody must look again, because a round is due or whoever holds the
 * lock may not have seen what the caller insists on. */
bool look_in_passing(bool insist) noexcept {
  const PacerInput input = sample_for_look();
  if (!engine_lock.try_lock()) return !insist;
  News news;
  const Begun begun = decide(input, false, &news);
  engine_lock.unlock();
  follow(begun, input, news);
  assist_if_critical(begun);
  return !begun.left;
}

/* A step of a pass asks for at most this share of the limit, so that threads which wait for the step
 * (and hooks which hold a lock for as long as they evict) go on after a millisecond or so. Measured at 256
 * MiB: with steps of 4 MiB a hook needs half as long again for each byte, for its caches are cold. */
constexpr int64_t kStepDivisor = 256;
constexpr int64_t kStepMinBytes = int64_t{256} << 10;

/* While it lives. In the child of a hook that forks it ends, too. */
class EveryFreeLookedAt {
 public:
  EveryFreeLookedAt() noexcept { account::look_at_every_free(true); }
  ~EveryFreeLookedAt() { account::look_at_every_free(false); }
  EveryFreeLookedAt(const EveryFreeLookedAt&) = delete;
  EveryFreeLookedAt& operator=(const EveryFreeLookedAt&) = delete;
};

/* Step by step, until enough is free or the hooks have no more; returns what they freed. Negative: a hook forked,
 * and this is the child. */
int64_t run_steps(int64_t round, int64_t wanted_bytes) noexcept {
  const EveryFreeLookedAt looked_at;
  const hooks::Pass all = make_pass(round, wanted_bytes, level(), sample());
  const int64_t step_bytes = std::max(all.limit_bytes / kStepDivisor, kStepMinBytes);
  int64_t freed = 0;
  for (;;) {
    const int64_t rest = still_wanted_now(all, freed);
    if (rest <= 0) return freed;
    hooks::Pass pass = make_pass(round, std::min(rest, step_bytes), level(), sample());
    const hooks::Outcome outcome = hooks::run(MEMLIMIT_ASYNC, pass);
    if (outcome.forked) return -1;
    freed += outcome.freed_bytes;
    assist::step_done(outcome.freed_bytes);
    // Hooks that gave next to nothing in this step have nothing for the next: nothing at all when a few bytes are
    // wanted, of which an eighth is none.
    if (outcome.freed_bytes <= pass.wanted_bytes / 8) return freed;
  }
}

/* When the last pass ended. The service thread's own. */
constinit int64_t pass_ended_ns = 0;

/* One pass of the ASYNC hooks, on the service thread. */
void run_async(int64_t wanted_bytes) noexcept {
  static constinit bool ends_at_exit = false;
  if (!ends_at_exit) hooks::end_before_what_exists();
  ends_at_exit = true;
  const int64_t round = counters.rounds.load(std::memory_order_relaxed);
  const int64_t began_ns = os::monotonic_ns();
  const ReclaimCpu cpu;
  const int64_t freed = run_steps(round, wanted_bytes);
  if (freed < 0) return;
  allocator.pass_ended();
  pass_ended_ns = os::monotonic_ns();
  cpu.stop();
  end_round(round, wanted_bytes, freed, began_ns);
}

/* All that the ASYNC hooks can give, because somebody asked; the pacer is not told. */
void run_explicit(int64_t wanted_bytes) noexcept {
  const int64_t round = counters.rounds.load(std::memory_order_relaxed);
  hooks::Pass pass = make_pass(round, wanted_bytes, level(), sample());
  ask_for_everything(&pass);
  const hooks::Outcome outcome = run_hooks(MEMLIMIT_ASYNC, pass);
  if (outcome.forked) return;
  counters.reclaimed.fetch_add(outcome.freed_bytes, std::memory_order_relaxed);
}

void pass_ended() noexcept {
  pending.async_running.store(false, std::memory_order_release);
  if (pending.async_wanted.load(std::memory_order_acquire) == 0) assist::work_done();
  pending.passes_done.fetch_add(1, std::memory_order_seq_cst);
  if (pending.waiting.load(std::memory_order_seq_cst) != 0) {
    os::futex_wake(pending.passes_done, INT32_MAX);
  }
}

}  // namespace

void configure(const Config& config, const AllocatorOps& ops) noexcept {
  allocator = ops;
  purge::configure(ops.collect, ops.set_eagerness);
  assist::configure(config.assist_ns);
  start_ns = os::monotonic_ns();
  invalid_settings = config.invalid_count();
  paced::configure(config.account);
  LockGuard guard(engine_lock);
  settings.start_percent = config.start_percent;
  settings.growth_percent = config.growth_percent;
  shared.growth.store(config.growth_percent > 0, std::memory_order_relaxed);
}

int64_t limit_bytes() noexcept { return shared.limit.load(std::memory_order_relaxed); }

Level level() noexcept { return static_cast<Level>(shared.level.load(std::memory_order_relaxed)); }

namespace {

/* What is kept for the next allocations was a share of another limit, or nobody allocates any more. */
void give_up_kept() noexcept {
  if (allocator.kept_bytes() == 0) return;
  allocator.free_kept();
  purge::ask_all();
}

/* Writes a new limit; what follows from it is limit_changed()'s. */
int64_t exchange_limit(int64_t bytes, const char* text) noexcept MEMLIMIT_REQUIRES(engine_lock) {
  strncpy(limit_source, text, sizeof limit_source - 1);
  purge_state = {};
  return shared.limit.exchange(bytes, std::memory_order_relaxed);
}

void limit_changed(int64_t old, int64_t bytes, LimitSource source) noexcept {
  if (bytes < old) give_up_kept();
  if (old != bytes) {
    emit(EventKind::kLimit, old, bytes, static_cast<int>(source));
    participants::limit_changed();
  }
  if (!ReentryGuard::inside()) {
    ReentryGuard reentry;
    read_footprint();
    if (wants_service()) service::start();
    look(true);
  } else {
    // On the service thread (a client of the socket, a hook) or in a hook: what follows from it must not
    // run here, under the locks of whoever asked.
    pending.look.store(true, std::memory_order_release);
    service::wake();
  }
}

}  // namespace

int64_t set_limit(int64_t bytes, LimitSource source, const char* text) noexcept {
  os::ErrnoGuard errno_guard;
  bytes = std::max<int64_t>(bytes, 0);
  int64_t old;
  {
    LockGuard guard(engine_lock);
    old = exchange_limit(bytes, text);
  }
  limit_changed(old, bytes, source);
  return old;
}

bool replace_limit(int64_t from, int64_t bytes, LimitSource source, const char* text) noexcept {
  os::ErrnoGuard errno_guard;
  {
    LockGuard guard(engine_lock);
    if (shared.limit.load(std::memory_order_relaxed) != from) return false;
    exchange_limit(bytes, text);
  }
  limit_changed(from, bytes, source);
  return true;
}

void look_at_group() noexcept {
  if (!active() || paced::mode() != AccountMode::kCgroup) return;
  read_footprint();
  look(false);
}

bool wants_service() noexcept {
  const int64_t limit = shared.limit.load(std::memory_order_relaxed);
  if (limit == 0) return false;
  // The footprint of a runtime's process says little before rounds are near: small scripts are to stay
  // without a second thread.
  return account::published_usage_bytes() >=
             std::min(kServiceUsageBytes, limit / kServiceLimitDivisor) ||
         paced::own_bytes() >= limit / kServiceFootprintDivisor;
}

namespace {

bool lacks_service() noexcept { return !service::running() && wants_service(); }

void ask_others() noexcept {
  participants::ask_if_wanted();
  if (participants::wants_service()) service::wake();
}

}  // namespace

void after_allocation(int64_t bytes) noexcept {
  if (ReentryGuard::inside()) return;
  if (!active()) return;
  ReentryGuard reentry;
  const int64_t limit = shared.limit.load(std::memory_order_relaxed);
  read_footprint_if_due();
  purge::collect_if_asked();
  ask_others();
  if (lacks_service()) service::start();
  const int64_t before = account::published_usage_bytes() - bytes;
  if (bytes >= kQuantumMaxBytes && before <= limit && bytes > limit - before) {
    counters.oversized.fetch_add(1, std::memory_order_relaxed);
    emit(EventKind::kOversized, bytes, limit - before, before + bytes);
  }
  look(bytes >= kInsistBytes);
}

void after_free() noexcept {
  if (ReentryGuard::inside() || !active()) return;
  ReentryGuard reentry;
  purge::collect_if_asked();
  const PurgeInput in = purge_input();
  note_near_limit(in);
  if (hoards_matter(in, shared.was_near_at.load(std::memory_order_relaxed))) {
    read_footprint_if_due();
    purge::collect_if_hoarding(in.limit_bytes);
  }
  if (level() != Level::kLow || purge_worthwhile(in)) look(false);
}

void after_mapping(int64_t bytes) noexcept {
  const int64_t before = shared.mapped_ever.fetch_add(bytes, std::memory_order_relaxed);
  if (ReentryGuard::inside() || !active()) return;
  // As often as a thread that allocates looks up: whenever another quantum is full.
  const int64_t quantum = account::quantum_bytes();
  if (bytes < quantum && before / quantum == (before + bytes) / quantum) return;
  os::ErrnoGuard errno_guard;
  ReentryGuard reentry;
  read_footprint_if_due();
  ask_others();
  const bool done = look_in_passing(bytes >= kInsistBytes);
  if (!done && service::running()) {
    pending.look.store(true, std::memory_order_release);
    service::wake();
  }
  // A runtime may allocate a few small blocks for each heap that it maps: the first of them looks.
  if (!done || lacks_service() || purge::is_asked()) account::look_at_next_allocation();
}

void after_unmapping(int64_t bytes) noexcept {
  if (active()) shared.footprint_due.fetch_sub(bytes, std::memory_order_relaxed);
}

int64_t wanted_at_safe_point(const hooks::Pass& pass, int64_t freed_bytes) noexcept {
  read_footprint();
  return still_wanted_now(pass, freed_bytes);
}

int64_t purge_after_runtime(int64_t freed_bytes) noexcept {
  os::ErrnoGuard errno_guard;
  if (freed_bytes >= kPurgeRuntimeBytes) {
    purge::collect_own();
    // What was freed for other threads comes back to their heaps, and they alone can collect those.
    if (account::thread_count() > 1) purge::ask_threads();
  } else {
    read_footprint();
  }
  return paced::footprint_bytes();
}

void safe_point_ran(const hooks::Pass& pass, int64_t began_ns, int64_t freed_bytes, int64_t cpu_ns,
                    bool ends, bool counts) noexcept {
  os::ErrnoGuard errno_guard;
  add_reclaim_cpu(cpu_ns);
  if (ends && counts) {
    end_round(static_cast<int64_t>(pass.round), pass.wanted_bytes, freed_bytes, began_ns);
    return;
  }
  counters.reclaimed.fetch_add(freed_bytes, std::memory_order_relaxed);
  LockGuard guard(engine_lock);
  if (ends) {
    round_skipped(pacer);
  } else {
    round_partly_done(pacer, freed_bytes);
  }
}

void safe_point_skipped() noexcept {
  LockGuard guard(engine_lock);
  round_skipped(pacer);
}

int64_t purge_now() noexcept {
  os::ErrnoGuard errno_guard;
  ReentryGuard reentry;
  allocator.free_kept();
  const int64_t fell = purge::collect_own();
  purge::ask_all();
  return fell;
}

int64_t reclaim_now(int64_t bytes) noexcept {
  if (ReentryGuard::inside()) return 0;
  os::ErrnoGuard errno_guard;
  int64_t freed = 0;
  {
    ReentryGuard reentry;
    account::publish();
    const int64_t wanted = bytes > 0 ? bytes : INT64_MAX / 2;
    const int64_t began_ns = os::monotonic_ns();
    const int64_t usage_before = account::published_usage_bytes();
    const int64_t round = counters.rounds.fetch_add(1, std::memory_order_relaxed) + 1;
    hooks::Pass pass = make_pass(round, wanted, level(), sample());
    pass.everything = true;
    pass.still_wanted = everything_wanted;
    const hooks::Outcome outcome = run_hooks(MEMLIMIT_INLINE, pass);
    counters.reclaimed.fetch_add(outcome.freed_bytes, std::memory_order_relaxed);
    const int64_t rest = wanted - outcome.freed_bytes;
    // Runtimes do their part when this thread is back in theirs.
    if (rest > 0) participants::begin_round(pass, began_ns, false);
    if (rest > 0 && hooks::count(MEMLIMIT_POLL) > 0) {
      ask_for(pending.explicit_poll_wanted, rest);
      wake_poller();
    }
    if (rest > 0 && hooks::count(MEMLIMIT_ASYNC) > 0) {
      service::start();
      ask_for(pending.explicit_wanted, rest);
      service::wake();
      int64_t waited_ns = 0;
      pending.waiting.fetch_add(1, std::memory_order_seq_cst);
      while (waited_ns < kExplicitWaitNs && service::running() &&
             (pending.explicit_wanted.load(std::memory_order_acquire) != 0 ||
              pending.async_running.load(std::memory_order_acquire))) {
        const uint32_t before = pending.passes_done.load(std::memory_order_acquire);
        if (pending.explicit_wanted.load(std::memory_order_acquire) == 0 &&
            !pending.async_running.load(std::memory_order_acquire)) {
          break;
        }
        os::futex_wait(pending.passes_done, before, kExplicitWaitNs - waited_ns);
        waited_ns = os::monotonic_ns() - began_ns;
      }
      pending.waiting.fetch_sub(1, std::memory_order_relaxed);
    }
    const int64_t usage_after = account::published_usage_bytes();
    freed = std::max<int64_t>(usage_before - usage_after, outcome.freed_bytes);
    round_histogram.observe(os::monotonic_ns() - began_ns);
    freed_histogram.observe(freed);
    emit(EventKind::kRound, round, bytes, freed, os::monotonic_ns() - began_ns);
  }
  freed += purge_now();
  return freed;
}

int poll_fd() noexcept {
  os::ErrnoGuard errno_guard;
  int fd = poll_descriptor.load(std::memory_order_acquire);
  if (fd >= 0) return fd;
  const int fresh = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fresh < 0) return -errno;
  if (!poll_descriptor.compare_exchange_strong(fd, fresh, std::memory_order_seq_cst)) {
    os::close_file(fresh);
    return fd;
  }
  if (pending.poll_due.load(std::memory_order_seq_cst)) wake_poller();
  return fresh;
}

int poll() noexcept {
  if (!pending.poll_due.load(std::memory_order_relaxed)) return 0;
  if (ReentryGuard::inside()) return 0;
  if (pending.poll_running.exchange(true, std::memory_order_acquire)) return 0;
  os::ErrnoGuard errno_guard;
  const int fd = poll_descriptor.load(std::memory_order_acquire);
  uint64_t ignored;
  // Cleared before the figures are taken: a round that comes in between makes it readable again.
  pending.poll_due.exchange(false, std::memory_order_acq_rel);
  if (fd >= 0) os::read_some(fd, reinterpret_cast<char*>(&ignored), sizeof ignored);
  const int64_t wanted = pending.poll_wanted.exchange(0, std::memory_order_acq_rel);
  const int64_t asked = pending.explicit_poll_wanted.exchange(0, std::memory_order_acq_rel);
  int calls = 0;
  if (wanted > 0 || asked > 0) {
    const int64_t began_ns = os::monotonic_ns();
    const int64_t round = counters.rounds.load(std::memory_order_relaxed);
    hooks::Pass pass = make_pass(round, std::max(wanted, asked), level(), sample());
    if (asked > 0) ask_for_everything(&pass);
    const hooks::Outcome outcome = run_hooks(MEMLIMIT_POLL, pass);
    calls = outcome.calls;
    if (!outcome.forked) {
      if (wanted > 0) {
        end_round(round, wanted, outcome.freed_bytes, began_ns);
      } else {
        counters.reclaimed.fetch_add(outcome.freed_bytes, std::memory_order_relaxed);
      }
    }
  }
  pending.poll_running.store(false, std::memory_order_release);
  // As after an async pass: a loop that found little wanted and goes to sleep over the limit must be
  // woken for the rest, for it will not allocate its way to another look.
  if (calls > 0 && active()) {
    ReentryGuard reentry;
    account::publish();
    look(true);
  }
  return calls;
}

namespace {

bool has_pending_work() noexcept {
  return pending.async_wanted.load(std::memory_order_acquire) != 0 ||
         pending.explicit_wanted.load(std::memory_order_acquire) != 0 || purge::has_request() ||
         pending.look.load(std::memory_order_acquire);
}

void serve() noexcept {
  // Without a limit, too: level, quantum and eagerness are to be what they are without one.
  if (pending.look.exchange(false, std::memory_order_acq_rel)) {
    read_footprint();
    look(true);
  }
  if (purge::take_request()) note_purged(purge::collect_own());
  if (!has_pending_work()) {
    if (allocator.kept_bytes() > 0 && os::monotonic_ns() - pass_ended_ns > kKeptNs) give_up_kept();
    return;
  }
  pending.async_running.store(true, std::memory_order_release);
  const int64_t wanted = pending.async_wanted.exchange(0, std::memory_order_acq_rel);
  if (wanted != 0) {
    // Again: the end of the pass before may have come between the request and the figure.
    assist::work_requested();
    run_async(wanted);
  }
  // Taken before the hooks run: who asks meanwhile is asking for another pass. async_running was set before,
  // so that reclaim_now(), which finds its request taken, waits for the end of this one.
  if (const int64_t asked = pending.explicit_wanted.exchange(0, std::memory_order_acq_rel)) {
    run_explicit(asked);
  }
  pass_ended();
  // What the hooks freed may have changed the level, and another round may be due already.
  if (active()) look(true);
}

}  // namespace

/* RssAnon, read again when the last reading is older than that. It is footprint_bytes() summed more
 * exactly, at ten times the cost. */
int64_t rss_anon_bytes(int64_t max_age_ns) noexcept {
  const int64_t now_ns = os::monotonic_ns();
  if (now_ns - shared.rss_read_ns.load(std::memory_order_relaxed) > max_age_ns) {
    const int64_t bytes = procfs::rss_anon_bytes();
    paced::note_footprint(bytes);
    note_footprint(bytes);
    shared.rss_anon.store(std::max<int64_t>(bytes, 0), std::memory_order_relaxed);
    shared.rss_read_ns.store(now_ns, std::memory_order_relaxed);
  }
  return shared.rss_anon.load(std::memory_order_relaxed);
}

void fill_figures(memlimit_stats* figures, int64_t max_age_ns) noexcept {
  const int64_t rss_anon = rss_anon_bytes(max_age_ns);
  const account::Totals totals = account::totals();
  const int64_t heap = std::max<int64_t>(totals.heap_bytes(), 0);
  account::note_peak(heap);
  memlimit_stats& out = *figures;
  out.size = sizeof out;
  out.limit = limit_bytes();
  out.heap_alloc = heap;
  out.heap_peak = account::heap_peak_bytes();
  out.total_alloc = totals.allocated_bytes - totals.charged_in_bytes;
  out.total_freed = totals.freed_bytes - totals.charged_out_bytes;
  out.charged = totals.charged_bytes;
  out.mapped = allocator.mapped_bytes();
  out.rss_anon = rss_anon;
  out.cgroup_used = paced::group_bytes();
  const bool usage_only = paced::mode() == AccountMode::kHeap && !paced::footprint_over();
  const int64_t usage = totals.usage_bytes();
  out.paced = usage_only ? usage + paced::overhead_bytes() : std::max(usage, paced::bytes());
  out.headroom = out.limit > 0 ? out.limit - out.paced : 0;
  out.level = shared.level.load(std::memory_order_relaxed);
  out.rounds = counters.rounds.load(std::memory_order_relaxed);
  const hooks::Sums sums = hooks::sums();
  const hooks::Sums runtime_sums = participants::sums();
  out.hook_calls = sums.calls + runtime_sums.calls;
  out.hook_skips = sums.skips + runtime_sums.skips;
  out.hook_ns = sums.ns + runtime_sums.ns;
  out.hooks = hooks::count(MEMLIMIT_ASYNC) + hooks::count(MEMLIMIT_POLL) +
              hooks::count(MEMLIMIT_INLINE) + participants::count();
  out.reclaimed = counters.reclaimed.load(std::memory_order_relaxed);
  out.overshoot_peak = counters.overshoot_peak.load(std::memory_order_relaxed);
  out.oversized = counters.oversized.load(std::memory_order_relaxed);
  out.reclaim_cpu_ns = reclaim_cpu_ns();
  assist::fill(&out);
  purge::fill(&out);
  out.madvise_calls = allocator.madvise_calls();
  out.held_idle = std::max<int64_t>(rss_anon - totals.usage_bytes(), 0);
  out.threads = account::thread_count();
  out.quantum = account::quantum_bytes();
  out.publishes = static_cast<int64_t>(account::publish_count());
  out.forks = counters.forks.load(std::memory_order_relaxed);
  out.invalid_settings = invalid_settings;
  out.uptime_ns = os::monotonic_ns() - start_ns;
  LockGuard guard(engine_lock);
  out.limiter_on = enabled(limiter) || hopeless ? 1 : 0;
  out.limiter_episodes = limiter.episodes + hopeless_episodes;
  out.limiter_skipped = limiter.skipped;
  const bool hopeless_last = hopeless_since_ns > limiter.on_since_ns;
  out.limiter_needed = hopeless_last ? hopeless_needed : limiter.needed_bytes;
}

void fill(Snapshot* snapshot) noexcept {
  fill_figures(&snapshot->figures, kRssAgeNs);
  {
    LockGuard guard(engine_lock);
    memcpy(snapshot->limit_source, limit_source, sizeof snapshot->limit_source);
  }
  strncpy(snapshot->account, paced::mode_name(), sizeof snapshot->account - 1);
  snapshot->pid = os::process_id();
  snapshot->round_ns = round_histogram.copy();
  snapshot->assist_ns = assist::histogram();
  snapshot->freed_bytes = freed_histogram.copy();
  snapshot->hook_count = hooks::rows(snapshot->hooks, Snapshot::kMaxHooks);
  snapshot->hook_count += participants::rows(snapshot->hooks + snapshot->hook_count,
                                             Snapshot::kMaxHooks - snapshot->hook_count);
}

namespace {

void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  engine_lock.reset_after_fork();
  const int64_t forks = counters.forks.load(std::memory_order_relaxed) + 1;
  for (std::atomic<int64_t>* counter :
       {&counters.rounds, &counters.reclaimed, &counters.overshoot_peak, &counters.oversized,
        &counters.reclaim_cpu_ns}) {
    counter->store(0, std::memory_order_relaxed);
  }
  counters.forks.store(forks, std::memory_order_relaxed);
  for (std::atomic<int64_t>* wanted : {&pending.async_wanted, &pending.poll_wanted,
                                       &pending.explicit_wanted, &pending.explicit_poll_wanted}) {
    wanted->store(0, std::memory_order_relaxed);
  }
  pending.poll_due.store(false, std::memory_order_relaxed);
  pending.look.store(false, std::memory_order_relaxed);
  pending.async_running.store(false, std::memory_order_relaxed);
  pending.waiting.store(0, std::memory_order_relaxed);
  pending.poll_running.store(false, std::memory_order_relaxed);
  round_histogram.reset();
  freed_histogram.reset();
  pacer = {};
  limiter = {};
  hopeless = false;
  hopeless_episodes = hopeless_needed = hopeless_since_ns = 0;
  purge_state = {};
  overhead_state = {};
  start_ns = os::monotonic_ns();
  shared.footprint_due.store(0, std::memory_order_relaxed);
  shared.rss_read_ns.store(INT64_MIN / 2, std::memory_order_relaxed);
  shared.was_near_at.store(INT64_MIN / 2, std::memory_order_relaxed);
  // The parent's eventfd is shared with it: the child's loop would be woken by the parent's rounds.
  poll_descriptor.store(-1, std::memory_order_relaxed);
}

}  // namespace

constinit const service::Task kTask{
    .begin = []() noexcept { assist::set_worker(os::thread_id()); },
    .run = [](const service::Turn&) noexcept { serve(); },
    .has_work = has_pending_work,
};

constinit const fork::Part kForkPart{"rounds", fork::hold<engine_lock>, fork::let_go<engine_lock>,
                                     reset_after_fork};

}  // namespace memlimit::reclaim
