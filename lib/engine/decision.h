/* The decisions, taken under one lock: what the pure functions of lib/pacing say of the figures of now.
 *
 * Answers for: the state of pacer, limiter, purges and overhead, and that the limit and its origin change together.
 * Refuses to act: what was decided is carried out by look.h and round.h, with nothing locked. The lock is held for a
 * decision only: never while a hook runs, the allocator collects, or a thread waits. A thread that finds it taken goes
 * on, because whoever holds it is deciding on the same numbers; only who insists waits.
 * Threads: all, inside malloc.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/fork.h"
#include "memlimit.h"
#include "pacing/limiter.h"
#include "pacing/pacer.h"
#include "pacing/purge_pacer.h"
#include "settings/config.h"

namespace memlimit::decision {

/* What the limiter did, copied out of the lock to be told outside it. */
struct LimiterNews {
  LimiterChange change = LimiterChange::kNone;
  int64_t needed_bytes = 0;
  int64_t reclaim_ns = 0; /* what reclaim took of the process's CPU time; 0: that was not why */
  int64_t cpu_ns = 0;
  int64_t skipped = 0;
  int64_t since_ns = 0;
};

/* Both reasons to let the limit go. */
struct News {
  LimiterNews limiter;
  LimiterNews hopeless;
};

/** What a look came to. */
struct Begun {
  bool due = false;
  bool left = false; /* a round is due, and whoever looks next is to find that, too */
  bool purge = false;
  bool purge_thorough = false;
  bool purges_in_vain = false;
  bool asks_runtimes = false;
  bool limit_let_go = false;
  bool in_vain = false; /* the limit is let go, or rounds bring next to nothing */
  int64_t round = 0;
  int64_t wanted_bytes = 0;
  Level level = Level::kLow;
  Level level_before = Level::kLow;
};

/** At start. */
void configure(const Config& config) noexcept;

/** The figures that decisions are taken on, as they are now. */
PacerInput sample() noexcept;
PurgeInput purge_input() noexcept;

/** Whether to wait for the lock. */
enum class Lock : bool { kTry, kInsist };

/** Whether the caller can begin a round; if not, one that is due is left to whoever looks next. */
enum class Rounds : bool { kLeave, kBegin };

/** Asks the pacer, and the limiter when a round is due or the limit is let go. False: the lock was taken. */
bool decide(const PacerInput& input, Lock lock, Rounds rounds, Begun* begun, News* news) noexcept;

/** A round is over; `answered` is false when all who were asked said "cannot now". What follows for the limiter is the
 *  caller's to tell. */
News round_ended(int64_t wanted_bytes, int64_t freed_bytes, bool answered, int64_t now_ns) noexcept;

/** Whether rounds have been in vain, and are further apart than without. An atomic load. */
bool backs_off() noexcept;

/** It was not run after all, or hooks have freed a part of it and others go on. */
void round_was_skipped() noexcept;
void round_is_partly_done(int64_t freed_bytes) noexcept;

/** Tells of the limiter, if it is news. With nothing locked. */
void tell(const News& news) noexcept;

/** Writes a new limit and where it came from (copied); returns the old one. What follows from it is limit.h's. */
int64_t exchange_limit(int64_t bytes, const char* text) noexcept;

/** The same, if `from` is what is in force. */
bool replace_limit(int64_t from, int64_t bytes, const char* text) noexcept;

/** Where the limit came from, as it was told. */
void limit_source(char* out, size_t cap) noexcept;

/** The level of so much paced memory. Not pressure::level(), which is that of the last look: nobody looks while nothing
 *  is allocated. Without its hysteresis, so that it fits the headroom beside it. */
Level level_of(int64_t paced_bytes) noexcept;

/** Whether the limit is let go because reclaim took too much CPU time, rather than since not enough is left to give. */
bool let_go_for_time() noexcept;

/** Fills in the limiter's figures. */
void fill(memlimit_stats* figures) noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::decision
