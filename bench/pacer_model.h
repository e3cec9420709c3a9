/* A small model of a program under memlimit: threads, hooks, latency, and no real memory.
 *
 * Answers for: driving pace(), the limiter and the ranking exactly as the library does, in
 * simulated time, and counting what came of it. Used by bench/pacer_sim.cc (plots, constants) and
 * by the property tests of the pacer. Deterministic: same scenario, same seed, same figures.
 * Refuses: real clocks and threads.
 *
 * What it models: threads that publish their counters a quantum late, a service thread that wakes
 * up late (now and then a whole time slice late), hooks that free at a finite speed while the
 * program goes on allocating, cores that are shared, and a footprint that follows usage down
 * slowly.
 */
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "pacing/limiter.h"
#include "pacing/pacer.h"
#include "pacing/ranking.h"

namespace memlimit::sim {

/** splitmix64: a few lines that give the same numbers everywhere, unlike std's distributions. */
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  double unit();                             /* [0, 1) */
  int64_t range(int64_t from, int64_t upto); /* both included */

 private:
  uint64_t state_;
};

/** Memory of the simulated program, bytes, by who can free it. */
struct Memory {
  int64_t cache = 0; /* hooks can free it */
  int64_t held = 0;  /* only the program can */
  int64_t usage() const { return cache + held; }
};

/** A hook frees `cache` at a finite speed. */
struct Hook {
  std::string name = "evict";
  double bytes_per_us = 2000; /* freeing speed */
  double fixed_us = 5;        /* CPU cost of a call even if nothing is freed */
  double blocked_us = 0;      /* waits this long without using CPU */
  double obeys = 1.0;         /* frees wanted * obeys */
  int64_t lump_bytes = 0;     /* frees whole multiples of this */
  bool lies = false;          /* claims all of it, frees nothing */
  std::function<bool(int64_t now_ns)> works = nullptr; /* null: always */
};

/** A program allocates and frees; how is all that scenarios differ in. */
struct Scenario {
  std::string name;
  std::string says; /* one sentence for the plot */
  int64_t limit_bytes = int64_t{256} << 20;
  PacerSettings settings;
  int threads = 2;
  int cores = 2;
  int64_t duration_ns = 10'000'000'000;
  int64_t block_bytes = 1200; /* mean size of a block */
  double bytes_per_us = 500;  /* allocation speed of one thread that has a core */
  std::vector<Hook> hooks{Hook{}};
  uint64_t late_every = 64;           /* one wake-up in so many is late by a time slice; 0: none */
  double slow_purge_bytes_per_us = 0; /* > 0: a footprint is paced that falls at this speed only */
  double pinned = 0; /* share of freed memory the footprint keeps until it is used again */
  int64_t assist_ns =
      0; /* from level critical on a thread waits this long for a round, once a round */
  int64_t slice_ns = 0; /* > 0: hooks are asked for what they free in this time, again and again */
  /** Called for each step of a thread: `bytes` were allocated, put them somewhere; may also free.
   */
  std::function<void(Memory&, Random&, int64_t now_ns, int64_t bytes)> allocate;
  /** Called every tick: time-driven changes (oversized blocks). Returns bytes allocated by it. */
  std::function<int64_t(Memory&, Random&, int64_t now_ns)> every_tick = nullptr;
  /** Speed factor of a thread; null: always 1. */
  std::function<double(int64_t now_ns, int thread)> speed = nullptr;
  /** Limit over time; null: limit_bytes. */
  std::function<int64_t(int64_t now_ns)> limit = nullptr;
};

/** A point of the plot. */
struct Sample {
  int64_t now_ns, usage_bytes, paced_bytes, limit_bytes;
  int level;
  bool limiter_on;
};

/** A round, with what it was asked for. */
struct Round {
  int64_t now_ns, allocated_bytes, usage_bytes, headroom_bytes, wanted_bytes, freed_bytes;
};

/** What came of it. */
struct Figures {
  int64_t allocated_bytes = 0, evicted_bytes = 0;
  int64_t peak_bytes = 0;
  int64_t lowest_after_bytes = 0; /* of usage, after it first reached 90 % of the limit */
  double in_band = 0;         /* share of time between 90 and 100 % after it first got to 90 % */
  double over = 0;            /* share of time above the limit */
  double median = 0, p99 = 0; /* usage / limit after that, by time */
  int64_t decisions = 0, rounds = 0, fruitless = 0, below_start = 0;
  double rounds_per_limit = 0; /* rounds for each limit's worth of allocation */
  int64_t hook_calls = 0;
  double reclaim_cpu = 0; /* share of all CPU time used */
  double engine_us_per_round = 0;
  int64_t limiter_episodes = 0, limiter_skipped = 0, needed_bytes = 0;
  int64_t level_changes = 0;
  int64_t looks = 0;
  std::vector<Sample> samples;
  std::vector<Round> log;
};

/** Runs a scenario. `keep_samples` 0: none kept, else about that many over the whole run. */
Figures run(const Scenario& scenario, uint64_t seed, int64_t keep_samples);

/** The named scenarios of issue 3, for the plots. */
std::vector<Scenario> scenarios();

/** An LRU cache that is filled for ever, the case that must sit between 90 and 100 % of the limit.
 */
Scenario lru_fill(int threads, int64_t limit_bytes);

/** A program made up from the seed: its mix of cache, live and short-lived memory, its threads, limit,
 *  start threshold and hooks, of which one at least is good. Nothing leaks, and what only the program
 *  can free stays below 60 % of the limit. */
Scenario random_scenario(uint64_t seed);

}  // namespace memlimit::sim
