/* See decision.h. */
#include "engine/decision.h"

#include <algorithm>
#include <cstring>

#include "engine/account.h"
#include "engine/assist.h"
#include "engine/counters.h"
#include "engine/footprint.h"
#include "engine/paced.h"
#include "engine/pressure.h"
#include "engine/purge.h"
#include "engine/service.h"
#include "observe/event_ring.h"
#include "pacing/hopeless.h"
#include "pacing/overhead.h"
#include "system/attributes.h"
#include "system/lock.h"
#include "system/os.h"

namespace memlimit::decision {

/* As they begin, on the page that fork writes anyway. Nobody writes to them, but the compiler cannot know: they are not this
 * file's alone. From values that it knows it would make a copy among the constants, on a page that each child reads for it. */
constinit MEMLIMIT_FORK_DATA PacerState fresh_pacer{};
constinit MEMLIMIT_FORK_DATA PurgeState fresh_purge_state{};

namespace {

/* The limiter's bucket holds a second of CPU time a core: it is asked at most this often. */
constexpr int64_t kLimiterEveryNs = 5'000'000;

constinit MEMLIMIT_FORK_DATA memlimit::Lock engine_lock{LockRank::kReclaim};
constinit MEMLIMIT_FORK_DATA PacerSettings settings MEMLIMIT_GUARDED_BY(engine_lock){};
constinit MEMLIMIT_FORK_DATA PacerState pacer MEMLIMIT_GUARDED_BY(engine_lock){};
constinit std::atomic<bool> rounds_are_apart{
    false}; /* as the pacer has it; for who has not the lock */
constinit MEMLIMIT_FORK_DATA LimiterState limiter MEMLIMIT_GUARDED_BY(engine_lock){};
constinit MEMLIMIT_FORK_DATA int cores MEMLIMIT_GUARDED_BY(engine_lock) =
    0; /* 0: not counted yet */
constinit MEMLIMIT_FORK_DATA PurgeState purge_state MEMLIMIT_GUARDED_BY(engine_lock){};
constinit MEMLIMIT_FORK_DATA OverheadState overhead_state MEMLIMIT_GUARDED_BY(engine_lock){};
/* The limit cannot be held because nothing is left to give; the limiter's state when it is its CPU time
 * that is used up. */
constinit MEMLIMIT_FORK_DATA HopelessState hopeless MEMLIMIT_GUARDED_BY(engine_lock){};
constinit char source_text[96] MEMLIMIT_GUARDED_BY(engine_lock){};

LimiterNews update_limiter(int64_t now_ns) noexcept MEMLIMIT_REQUIRES(engine_lock) {
  LimiterNews news;
  if (!pressure::active()) {
    news.change = limiter_release(limiter);
  } else if (!limiter.started || now_ns - limiter.now_ns >= kLimiterEveryNs) {
    if (cores == 0) cores = os::cpu_count();
    news.change = limiter_update(limiter, now_ns, os::process_cpu_ns(), counters::reclaim_cpu_ns(),
                                 cores, assist::waited_ns());
  }
  news.needed_bytes = limiter.needed_bytes;
  news.reclaim_ns = std::max<int64_t>(limiter.took_reclaim_ns, 1); /* 0 is for the other reason */
  news.cpu_ns = limiter.took_process_ns;
  news.skipped = limiter.skipped;
  news.since_ns = limiter.on_since_ns;
  return news;
}

/* The same news for a limit that is out of reach. */
LimiterNews update_hopeless(int64_t now_ns, int64_t paced) noexcept MEMLIMIT_REQUIRES(engine_lock) {
  LimiterNews news;
  news.change =
      hopeless_update(hopeless, {now_ns, pressure::limit_bytes(), paced, pacer.fruitless});
  news.needed_bytes = hopeless.needed_bytes;
  news.since_ns = hopeless.on_since_ns;
  return news;
}

/* While the limit is let go: whether that is over, which no round may be due to notice. */
News update_let_go(int64_t now_ns, int64_t paced) noexcept MEMLIMIT_REQUIRES(engine_lock) {
  News news;
  if (enabled(limiter)) news.limiter = update_limiter(now_ns);
  if (hopeless.on) news.hopeless = update_hopeless(now_ns, paced);
  return news;
}

void tell(const LimiterNews& news) noexcept {
  if (news.change == LimiterChange::kCameOn) {
    emit(EventKind::kLimiterOn, news.needed_bytes, pressure::limit_bytes(), news.reclaim_ns,
         news.cpu_ns);
    service::wake();
  } else if (news.change == LimiterChange::kWentOff) {
    emit(EventKind::kLimiterOff, news.skipped, os::monotonic_ns() - news.since_ns);
  }
}

/* Once for each reading of the footprint. Beyond the highest usage of late: what is idle until usage is there again is no
 * overhead. */
void note_overhead(int64_t limit) noexcept MEMLIMIT_REQUIRES(engine_lock) {
  const int64_t beyond = paced::take_beyond_usage();
  if (beyond < 0) return;
  const int64_t held = paced::footprint_bytes();
  const int64_t above_usage =
      account::published_usage_bytes() + beyond - highest_usage(purge_state);
  paced::set_overhead(overhead(overhead_state, {limit, held, std::min(beyond, above_usage)}));
}

/* Under the lock: asks the pacer, and the limiter when a round is due or the limit is let go. */
Begun decide_locked(const PacerInput& input, Rounds rounds, News* news) noexcept
    MEMLIMIT_REQUIRES(engine_lock) {
  const PurgeInput purge_in = purge_input();
  note_usage(purge_state, purge_in);
  note_overhead(input.limit_bytes);
  const PacerState before = pacer;
  const Decision decision = pace(settings, pacer, input);
  rounds_are_apart.store(pacer.fruitless > 0, std::memory_order_relaxed);
  Begun begun;
  begun.limit_let_go = enabled(limiter) || hopeless.on;
  begun.in_vain = begun.limit_let_go || pacer.fruitless > 1;
  begun.level = decision.level;
  begun.level_before = pressure::exchange_level(decision.level);
  const bool idle_presses = purge_worthwhile(purge_state, purge_in);
  const bool reads_clock = decision.round_due || idle_presses || begun.limit_let_go;
  const int64_t now_ns = reads_clock ? os::monotonic_ns() : 0;
  // Purges are reclaim's CPU time, and the limiter's to stop.
  if (!enabled(limiter)) {
    // Both: on the way down nobody waits for what purges brought on the way up.
    const bool descends = descent_due(purge_state, purge_in);
    begun.purge = (idle_presses && purge_due(purge_state, purge_in, now_ns)) || descends;
    begun.purge_thorough = idle_presses && past_slack(purge_in);
  }
  begun.purges_in_vain = purges_in_vain(purge_state, purge_in);
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
  if (rounds == Rounds::kLeave) {
    pacer = before;
    begun.left = true;
    return begun;
  }
  begun.due = true;
  begun.asks_runtimes = asks_runtimes(settings, input.paced_bytes, input.limit_bytes);
  begun.wanted_bytes = decision.wanted_bytes;
  begun.round = counters::next_round();
  return begun;
}

int64_t exchange_limit_locked(int64_t bytes, const char* text) noexcept
    MEMLIMIT_REQUIRES(engine_lock) {
  strncpy(source_text, text, sizeof source_text - 1);
  purge_state = {};
  return pressure::exchange_limit(bytes);
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  engine_lock.reset_after_fork();
  pacer = fresh_pacer;
  limiter = {};
  hopeless = {};
  purge_state = fresh_purge_state;
  overhead_state = {};
}

}  // namespace

void configure(const Config& config) noexcept {
  pressure::set_growth(config.growth_percent > 0);
  LockGuard guard(engine_lock);
  settings.start_percent = config.start_percent;
  settings.growth_percent = config.growth_percent;
}

PacerInput sample() noexcept {
  const bool shared_with_others = paced::mode() == AccountMode::kCgroup;
  return {paced::bytes(), pressure::limit_bytes(), pressure::clock_bytes(),
          account::quantum_bytes(), shared_with_others ? paced::held_bytes() : -1};
}

PurgeInput purge_input() noexcept {
  const int64_t limit = pressure::limit_bytes();
  return {limit,
          account::published_usage_bytes(),
          paced::held_bytes(),
          paced::bytes_with_idle(),
          footprint::slack_bytes(limit),
          pressure::clock_bytes(),
          purge::purged_bytes(),
          purge::ended()};
}

bool decide(const PacerInput& input, Lock lock, Rounds rounds, Begun* begun, News* news) noexcept {
  if (lock == Lock::kInsist) {
    engine_lock.lock();
  } else if (!engine_lock.try_lock()) {
    return false;
  }
  *begun = decide_locked(input, rounds, news);
  engine_lock.unlock();
  return true;
}

News round_ended(int64_t wanted_bytes, int64_t freed_bytes, bool answered,
                 int64_t now_ns) noexcept {
  News news;
  LockGuard guard(engine_lock);
  const int64_t paced = paced::bytes();
  round_done(pacer, {wanted_bytes, freed_bytes, paced, pressure::clock_bytes()});
  rounds_are_apart.store(pacer.fruitless > 0, std::memory_order_relaxed);
  limiter_round_done(limiter, paced);
  news.limiter = update_limiter(now_ns);
  hopeless_round_done(hopeless, pacer.fruitless, answered, now_ns);
  news.hopeless = update_hopeless(now_ns, paced);
  return news;
}

bool backs_off() noexcept { return rounds_are_apart.load(std::memory_order_relaxed); }

void round_was_skipped() noexcept {
  LockGuard guard(engine_lock);
  round_skipped(pacer);
}

void round_is_partly_done(int64_t freed_bytes) noexcept {
  LockGuard guard(engine_lock);
  round_partly_done(pacer, freed_bytes);
}

void tell(const News& news) noexcept {
  tell(news.limiter);
  tell(news.hopeless);
}

int64_t exchange_limit(int64_t bytes, const char* text) noexcept {
  LockGuard guard(engine_lock);
  return exchange_limit_locked(bytes, text);
}

bool replace_limit(int64_t from, int64_t bytes, const char* text) noexcept {
  LockGuard guard(engine_lock);
  if (pressure::limit_bytes() != from) return false;
  exchange_limit_locked(bytes, text);
  return true;
}

void limit_source(char* out, size_t cap) noexcept {
  LockGuard guard(engine_lock);
  memcpy(out, source_text, cap < sizeof source_text ? cap : sizeof source_text);
}

Level level_of(int64_t paced_bytes) noexcept {
  LockGuard guard(engine_lock);
  return level_at(settings, paced_bytes, pressure::limit_bytes());
}

bool let_go_for_time() noexcept {
  LockGuard guard(engine_lock);
  return enabled(limiter);
}

void fill(memlimit_stats* figures) noexcept {
  LockGuard guard(engine_lock);
  figures->limiter_on = enabled(limiter) || hopeless.on ? 1 : 0;
  figures->limiter_episodes = limiter.episodes + hopeless.episodes;
  figures->limiter_skipped = limiter.skipped;
  const bool hopeless_last = hopeless.on_since_ns > limiter.on_since_ns;
  figures->limiter_needed = hopeless_last ? hopeless.needed_bytes : limiter.needed_bytes;
}

constinit const fork::Part kForkPart{"decision", fork::hold<engine_lock>, fork::let_go<engine_lock>,
                                     reset_after_fork};

}  // namespace memlimit::decision
