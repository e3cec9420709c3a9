/* The pacer in simulated programs: threads that publish late, hooks that take time, cores that are
 * shared. The model is the one that bench/pacer_sim plots. Deterministic: no clock, no threads. */
#include "../../../bench/pacer_model.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include <catch2/catch.hpp>

namespace sim = memlimit::sim;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kSecond = 1'000'000'000;

double ratio(int64_t bytes, const sim::Scenario& s) {
  return static_cast<double>(bytes) / static_cast<double>(s.limit_bytes);
}

sim::Scenario scenario(const std::string& name) {
  for (const sim::Scenario& s : sim::scenarios()) {
    if (s.name == name) return s;
  }
  FAIL("no scenario " << name);
  return {};
}

}  // namespace

TEST_CASE("pacer: an LRU cache filled for ever sits between 90 and 100 % of the limit",
          "[pacer][sim]") {
  for (const int threads : {1, 2, 4}) {
    for (uint64_t seed = 1; seed <= 2; ++seed) {
      CAPTURE(threads, seed);
      sim::Scenario s = sim::lru_fill(threads, 256 * kMiB);
      s.cores = threads;
      // The hook frees four times as fast as one thread fills: with four at full speed it could
      // never keep up (see below).
      if (threads == 4) s.bytes_per_us = 350;
      s.duration_ns = 5 * kSecond;
      const sim::Figures f = sim::run(s, seed, 0);
      CHECK(f.in_band >= 0.99);
      CHECK(ratio(f.peak_bytes, s) <= 1.02);
      CHECK(f.median >= 0.94);
      // The engine may cost 1 % of the CPU: at some 20 us a round, and 0.25 s a limit's worth of
      // allocation, that is 125 rounds.
      CHECK(f.rounds_per_limit <= 125);
      CHECK(f.fruitless == 0);
    }
  }
}

TEST_CASE("pacer: threads that together outrun the hook are held by waiting for it",
          "[pacer][sim]") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    CAPTURE(seed);
    sim::Scenario s = sim::lru_fill(4, 256 * kMiB);
    s.assist_ns = 5'000'000;
    s.duration_ns = 5 * kSecond;
    const sim::Figures f = sim::run(s, seed, 0);
    CHECK(ratio(f.peak_bytes, s) <= 1.02);
    CHECK(f.in_band >= 0.98);
  }
}

TEST_CASE("pacer: the LRU cache holds at small and at large limits, with many threads",
          "[pacer][sim]") {
  for (const int64_t limit : {4 * kMiB, 16 * kMiB, kMiB << 10, kMiB << 14}) {
    for (const int threads : {1, 4, 64}) {
      CAPTURE(limit, threads);
      sim::Scenario s = sim::lru_fill(threads, limit);
      s.cores = threads;
      s.block_bytes = std::clamp<int64_t>(limit / 50'000, 256, 65536);
      // Twice the limit a second.
      s.bytes_per_us = static_cast<double>(limit) * 2e-6 / threads;
      s.hooks[0].bytes_per_us = s.bytes_per_us * 4 * threads;
      s.duration_ns = 3 * kSecond;
      const sim::Figures f = sim::run(s, 1, 0);
      CHECK(f.in_band >= 0.99);
      CHECK(ratio(f.peak_bytes, s) <= 1.02);
    }
  }
}

TEST_CASE("pacer: hooks that are useless, lie, overdo or underdo change nothing", "[pacer][sim]") {
  for (const char* name :
       {"useless-first", "lying", "dumping", "grudging", "growth", "slow-leak"}) {
    CAPTURE(name);
    const sim::Scenario s = scenario(name);
    const sim::Figures f = sim::run(s, 1, 0);
    CHECK(f.in_band >= 0.99);
    CHECK(ratio(f.peak_bytes, s) <= 1.02);
    CHECK(f.rounds_per_limit <= 125);
  }
}

TEST_CASE("pacer: a hook that takes 20 ms is anticipated", "[pacer][sim]") {
  const sim::Scenario s = scenario("slow-hook");
  const sim::Figures f = sim::run(s, 1, 0);
  CHECK(f.p99 <= 1.0);
  CHECK(f.in_band >= 0.98);
  CHECK(ratio(f.peak_bytes, s) <= 1.05);
}

TEST_CASE("pacer: a hook that gives in lumps, or all, is asked near the limit only",
          "[pacer][sim]") {
  sim::Scenario s = scenario("lumps");
  sim::Figures f = sim::run(s, 1, 0);
  CHECK(ratio(f.lowest_after_bytes, s) >= 0.86);  // a lump is 9 % of the limit
  CHECK(ratio(f.peak_bytes, s) <= 1.02);
  s = scenario("all-or-nothing");
  f = sim::run(s, 1, 0);
  CHECK(ratio(f.peak_bytes, s) <= 1.02);
  CHECK(f.rounds_per_limit <= 1.1);
}

TEST_CASE("pacer: a leak is not ground to dust", "[pacer][sim]") {
  const sim::Scenario s = scenario("leak");
  const sim::Figures f = sim::run(s, 1, 0);
  CHECK(f.rounds_per_limit <= 18);
  CHECK(f.hook_calls <= f.rounds / 3);  // the hook backs off by itself, too
  CHECK(f.reclaim_cpu <= 0.01);
}

TEST_CASE("pacer: expensive reclaim that cannot help ends at half of the CPU time",
          "[pacer][sim]") {
  sim::Scenario s = scenario("leak");
  s.hooks[0].fixed_us = 200'000;  // a collector that finds nothing
  s.threads = 1;
  s.duration_ns = 20 * kSecond;
  sim::Figures f = sim::run(s, 1, 0);
  CHECK(f.reclaim_cpu <= 0.55);
  // One that frees just enough to be asked again and again, in a program that often waits for input.
  s.speed = [](int64_t now, int) { return now / 10'000'000 % 4 == 0 ? 1.0 : 0.0; };
  s.slice_ns = 5'000'000;  // long calls can be ended between slices only
  s.hooks[0].fixed_us = 1000;
  s.hooks[0].obeys = 1.0;
  s.hooks[0].bytes_per_us = 100;
  s.allocate = [](sim::Memory& m, sim::Random& r, int64_t, int64_t bytes) {
    (r.next() % 4 == 0 ? m.held : m.cache) += bytes;
  };
  f = sim::run(s, 1, 0);
  CHECK(f.reclaim_cpu <= 0.65);  // half, and a CPU-second a core
  CHECK(f.limiter_episodes >= 1);
  CHECK(f.limiter_skipped > 0);
  CHECK(f.needed_bytes > s.limit_bytes);
}

TEST_CASE("pacer: oversized requests leave no storm and usage returns", "[pacer][sim]") {
  const sim::Scenario s = scenario("oversized");
  const sim::Figures f = sim::run(s, 1, 0);
  CHECK(f.rounds_per_limit <= 125);
  // Over the limit only while the block lives: 300 ms of every 2 s.
  CHECK(f.over <= 0.17);
  CHECK(f.median >= 0.94);
}

TEST_CASE("pacer: a cache keeps what a breathing program leaves to it", "[pacer][sim]") {
  const sim::Scenario churn = scenario("churn");
  CHECK(sim::run(churn, 1, 0).evicted_bytes <= churn.limit_bytes / 25);
  const sim::Scenario sawtooth = scenario("sawtooth");
  const sim::Figures f = sim::run(sawtooth, 1, 0);
  CHECK(f.evicted_bytes <= f.allocated_bytes / 50);
}

TEST_CASE("pacer: a footprint that falls late is not chased", "[pacer][sim]") {
  for (const double purge_bytes_per_us : {50.0, 200.0, 2000.0}) {
    for (const double pinned : {0.0, 0.5, 0.9}) {
      CAPTURE(purge_bytes_per_us, pinned);
      sim::Scenario s = sim::lru_fill(2, 256 * kMiB);
      s.duration_ns = 5 * kSecond;
      s.slow_purge_bytes_per_us = purge_bytes_per_us;
      s.pinned = pinned;
      const sim::Figures f = sim::run(s, 1, 0);
      CHECK(ratio(f.peak_bytes, s) <= 1.02);
      CHECK(f.median >= 0.85);
    }
  }
}

TEST_CASE("pacer: random programs", "[pacer][sim]") {
  int near_the_limit = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const sim::Scenario s = sim::random_scenario(seed);
    CAPTURE(seed, s.limit_bytes, s.threads, s.settings.start_percent);
    const sim::Figures f = sim::run(s, seed, 0);
    CHECK(f.below_start == 0);
    CHECK(ratio(f.peak_bytes, s) <= 1.02);
    CHECK(f.over <= 0.001);
    CHECK(f.rounds_per_limit <= 130);
    CHECK(f.limiter_episodes == 0);
    near_the_limit += f.in_band >= 0.99 ? 1 : 0;
  }
  CHECK(near_the_limit >= 10);  // the programs are worth simulating
}
