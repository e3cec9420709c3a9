/* The pacer: single decisions with numbers worked out by hand, and what must hold for any numbers.
 * Programs with threads and latency are in pacer_sim_test.cc. */
#include "pacing/pacer.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include <catch2/catch.hpp>

using memlimit::Decision;
using memlimit::Level;
using memlimit::pace;
using memlimit::PacerInput;
using memlimit::PacerSettings;
using memlimit::PacerState;
using memlimit::quantum_for;
using memlimit::round_done;

namespace {

constexpr int64_t kKiB = 1024;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

// splitmix64: the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

 private:
  uint64_t state_;
};

// A program of one thread whose hook runs at once: nothing but the pacer's own arithmetic.
struct Program {
  PacerSettings settings;
  PacerState state;
  int64_t limit = 100 * kMiB;
  int64_t quantum = 64 * kKiB;
  int64_t cache = 0, held = 0, allocated = 0;
  double obeys = 1.0;   // the hook frees wanted * obeys
  bool claims = false;  // and says that it freed all, whatever it did

  // Filled in by look().
  Decision last;
  int rounds = 0;
  int64_t wanted = 0, evicted = 0;
  std::vector<int64_t> round_at, round_headroom;

  int64_t usage() const { return cache + held; }

  Decision look() {
    last = pace(settings, state, {usage(), limit, allocated, quantum});
    if (!last.round_due) return last;
    const Decision decided = last;
    ++rounds;
    wanted += decided.wanted_bytes;
    round_at.push_back(allocated);
    round_headroom.push_back(limit - usage());
    const auto give = static_cast<int64_t>(static_cast<double>(decided.wanted_bytes) * obeys);
    const int64_t freed = std::min(give, cache);
    cache -= freed;
    evicted += freed;
    round_done(state,
               {decided.wanted_bytes, claims ? decided.wanted_bytes : freed, usage(), allocated});
    last = pace(settings, state, {usage(), limit, allocated, quantum});
    return decided;
  }

  Decision fill(int64_t bytes) {
    cache += bytes;
    allocated += bytes;
    return look();
  }
  Decision hold(int64_t bytes) {
    held += bytes;
    allocated += bytes;
    return look();
  }
  Decision churn(int64_t bytes) {
    allocated += bytes;
    return look();
  }
  Decision release(int64_t bytes) {
    held -= bytes;
    return look();
  }
  void fill_to(int64_t upto) {
    // Not beyond where an obedient hook holds it.
    for (int64_t begun = allocated; usage() < upto && allocated - begun < 9 * limit;) fill(quantum);
  }
  void hold_to(int64_t upto) {
    while (usage() < upto) hold(quantum);
  }
};

}  // namespace

// --- Pieces ---

TEST_CASE("pacer: margin is 3 %, at least 1 MiB, at most a sixteenth", "[pacer]") {
  CHECK(memlimit::margin_for(1000 * kMiB) == 30 * kMiB);
  CHECK(memlimit::margin_for(20 * kMiB) == kMiB);
  CHECK(memlimit::margin_for(16 * kMiB) == kMiB);
  CHECK(memlimit::margin_for(8 * kMiB) == kMiB / 2);
  CHECK(memlimit::margin_for(1) == 0);
  CHECK(memlimit::margin_for(0) == 0);
  CHECK(memlimit::margin_for(-5) == 0);
  CHECK(memlimit::margin_for(2 * kGiB) < 96 * kMiB);
  CHECK(memlimit::margin_for(8 * kGiB) == 96 * kMiB);
  CHECK(memlimit::margin_for(kMax) == 96 * kMiB);
}

TEST_CASE("pacer: the gap is a third of the headroom, never less than a quantum", "[pacer]") {
  CHECK(memlimit::round_gap(50 * kMiB, 100 * kMiB, kKiB) == 50 * kMiB / 3);
  CHECK(memlimit::round_gap(100 * kMiB - 8 * kKiB, 100 * kMiB, kKiB) == 8 * kKiB / 3);
  CHECK(memlimit::round_gap(100 * kMiB - 8 * kKiB, 100 * kMiB, 64 * kKiB) == 64 * kKiB);
  CHECK(memlimit::round_gap(101 * kMiB, 100 * kMiB, 64 * kKiB) == 64 * kKiB);
  CHECK(memlimit::round_gap(0, kMax, 1) == kMax / 3);
  CHECK(memlimit::round_gap(kMax, 1, 0) == 1);
}

TEST_CASE("pacer: runtimes are asked half way from the start threshold on", "[pacer]") {
  memlimit::PacerSettings settings;
  CHECK_FALSE(memlimit::asks_runtimes(settings, 74 * kMiB, 100 * kMiB));
  CHECK(memlimit::asks_runtimes(settings, 75 * kMiB, 100 * kMiB));
  CHECK(memlimit::asks_runtimes(settings, 200 * kMiB, 100 * kMiB));
  CHECK(memlimit::asks_runtimes(settings, 0, 0));
  settings.start_percent = 20;
  CHECK_FALSE(memlimit::asks_runtimes(settings, 59 * kMiB, 100 * kMiB));
  CHECK(memlimit::asks_runtimes(settings, 60 * kMiB, 100 * kMiB));
  settings.start_percent = 200;
  CHECK_FALSE(memlimit::asks_runtimes(settings, 99 * kMiB, 100 * kMiB));
  CHECK(memlimit::asks_runtimes(settings, kMax, kMax));
  settings.growth_percent = 100;
  CHECK(memlimit::asks_runtimes(settings, 1, kMax));
}

TEST_CASE("pacer: the gap is monotone in headroom", "[pacer]") {
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    const int64_t limit = random.below(kMax) >> random.below(63);
    const int64_t quantum = 1 + random.below(128 * kKiB);
    const int64_t a = random.below(kMax) >> random.below(63);
    const int64_t b = random.below(kMax) >> random.below(63);
    const int64_t low = std::min(a, b);
    const int64_t high = std::max(a, b);
    REQUIRE(memlimit::round_gap(low, limit, quantum) >= memlimit::round_gap(high, limit, quantum));
    REQUIRE(memlimit::round_gap(high, limit, quantum) >= quantum);
  }
}

TEST_CASE("pacer: the quantum is 64 KiB far from the limit and small near it", "[pacer]") {
  CHECK(quantum_for(0, 5 * kGiB, 100) == 64 * kKiB);
  CHECK(quantum_for(kGiB, 0, 1) == 64 * kKiB);
  CHECK(quantum_for(kGiB, 0, 16) == 64 * kKiB);  // B = 10.24 MiB: B/8/16 = 80 KiB
  CHECK(quantum_for(kGiB, 0, 17) == kGiB / 100 / 8 / 32);
  CHECK(quantum_for(64 * kMiB, 0, 2) == 64 * kKiB);  // B = 1 MiB
  CHECK(quantum_for(64 * kMiB, 0, 4) == 32 * kKiB);
  CHECK(quantum_for(64 * kMiB, 0, 3) == 32 * kKiB);  // as for 4
  CHECK(quantum_for(64 * kMiB, 0, 1000) == 2 * kKiB);
  CHECK(quantum_for(kGiB, kGiB - 128 * kKiB, 1) == 32 * kKiB);
  CHECK(quantum_for(kGiB, kGiB - 128 * kKiB, 4) == 8 * kKiB);
  CHECK(quantum_for(kGiB, kGiB, 1) == 2 * kKiB);
  CHECK(quantum_for(kGiB, kGiB + 128 * kKiB, 1) == 32 * kKiB);  // symmetric
  CHECK(quantum_for(kGiB, 2 * kGiB, 1) == 64 * kKiB);
  CHECK(quantum_for(1, 0, 1) == 2 * kKiB);
  CHECK(quantum_for(kMax, 0, kMax) >= 2 * kKiB);
  CHECK(quantum_for(kMax, -1, -1) == 64 * kKiB);
}

TEST_CASE("pacer: threads that come one by one and keep their quantum stay within the bound",
          "[pacer]") {
  for (const int64_t limit :
       {int64_t{1}, kMiB, 64 * kMiB, 256 * kMiB, 4 * kGiB, 100 * kGiB, kMiB * kMiB, kMax}) {
    CAPTURE(limit);
    int64_t sum = 0;
    for (int64_t threads = 1; threads <= 5000; ++threads) {
      sum += quantum_for(limit, 0, threads);
      REQUIRE(sum <= std::max({limit / 100, kMiB, 4 * kKiB * threads}));
    }
  }
}

TEST_CASE("pacer: threads that come and go in any order stay within the bound", "[pacer]") {
  Random random(2);
  for (int run = 0; run < 60; ++run) {
    const int64_t limit = kMax >> random.below(62);
    CAPTURE(run, limit);
    std::vector<int64_t> quanta;  // of live threads, as each got it when it last looked
    int64_t most = 1 + random.below(300);
    int64_t sum = 0;
    for (int step = 0; step < 4000; ++step) {
      if (step % 500 == 0) most = 1 + random.below(300);
      const auto count = static_cast<int64_t>(quanta.size());
      if (count == 0 || (count < most && random.below(2) == 0)) {
        quanta.push_back(quantum_for(limit, 0, count + 1));
        sum += quanta.back();
      } else {
        const auto which = static_cast<size_t>(random.below(count));
        sum -= quanta[which];
        if (count > most || random.below(3) == 0) {
          quanta.erase(quanta.begin() + static_cast<std::ptrdiff_t>(which));
        } else {
          quanta[which] = quantum_for(limit, 0, count);
          sum += quanta[which];
        }
      }
      const auto threads = static_cast<int64_t>(quanta.size());
      REQUIRE(sum <= std::max({limit / 100, kMiB, 4 * kKiB * threads}));
    }
  }
}

TEST_CASE("pacer: a round goes on for what is left, and stops when usage fell by itself",
          "[pacer]") {
  using memlimit::still_wanted;
  CHECK(still_wanted(100, 0, 1000, 1000, kMax) == 100);
  CHECK(still_wanted(100, 40, 1000, 960, kMax) == 60);
  CHECK(still_wanted(100, 40, 1000, 1200, kMax) == 60);  // others allocated meanwhile
  CHECK(still_wanted(100, 100, 1000, 1000, kMax) == 0);
  CHECK(still_wanted(100, 150, 1000, 1000, kMax) == 0);
  CHECK(still_wanted(100, 10, 1000, 930, kMax) == 30);  // the program freed 60 more
  CHECK(still_wanted(100, 0, 1000, 100, kMax) == 0);
  CHECK(still_wanted(-1, -1, -1, -1, kMax) == 0);
  CHECK(still_wanted(kMax, -kMax, 0, kMax, kMax) == kMax);
  CHECK(still_wanted(100, 0, 1000, 940, 61) == 40);
  CHECK(still_wanted(100, 0, 1000, 940, 60) == 0);  // low enough, whatever was wanted
  CHECK(still_wanted(100, 40, 1000, 1000, 0) == 60);
}

TEST_CASE("pacer: a round lowers usage to a margin below the target, or below where it is",
          "[pacer]") {
  using memlimit::deepest_fall;
  constexpr int64_t kLimit = 1000 * kMiB;
  CHECK(deepest_fall(980 * kMiB, kLimit) == 50 * kMiB);
  CHECK(deepest_fall(1200 * kMiB, kLimit) == 270 * kMiB);
  CHECK(deepest_fall(700 * kMiB, kLimit) == 30 * kMiB);
  CHECK(deepest_fall(10 * kMiB, kLimit) == 10 * kMiB);
  CHECK(deepest_fall(-kMiB, kLimit) == 0);
  CHECK(deepest_fall(kMax, kMax) >= memlimit::margin_for(kMax));
  CHECK(deepest_fall(980 * kMiB, 0) == kMax);
}

TEST_CASE("pacer: a round that stops since usage fell low enough says nothing about the hooks",
          "[pacer]") {
  const PacerSettings settings;
  PacerState state;
  pace(settings, state, {97 * kMiB, 100 * kMiB, 100 * kMiB, 64 * kKiB});
  Decision d = pace(settings, state, {99 * kMiB, 100 * kMiB, 120 * kMiB, 64 * kKiB});
  REQUIRE(d.round_due);
  REQUIRE(d.wanted_bytes > 0);
  /* The program gave most of it; the hook a little. */
  const double yield = state.yield;
  round_done(state, {d.wanted_bytes, kKiB, 92 * kMiB, 120 * kMiB});
  CHECK(state.yield == yield);
  CHECK(state.fruitless == 0);
  /* Where usage has not fallen the hook is to blame. */
  d = pace(settings, state, {99 * kMiB, 100 * kMiB, 150 * kMiB, 64 * kKiB});
  REQUIRE(d.round_due);
  round_done(state, {d.wanted_bytes, kKiB, 99 * kMiB, 150 * kMiB});
  CHECK(state.yield < yield);
  CHECK(state.fruitless == 1);
}

// --- Start, levels, limit ---

TEST_CASE("pacer: nothing is due below start, nor without a limit", "[pacer]") {
  PacerState state;
  PacerInput in{49 * kMiB, 100 * kMiB, 900 * kMiB, 64 * kKiB};
  Decision d = pace({}, state, in);
  CHECK_FALSE(d.round_due);
  CHECK(d.level == Level::kLow);
  CHECK(d.next_round_allocated_bytes == 901 * kMiB);
  in.limit_bytes = 0;
  in.paced_bytes = kMax;
  d = pace({}, state, in);
  CHECK_FALSE(d.round_due);
  CHECK(d.level == Level::kLow);
  CHECK(d.next_round_allocated_bytes == kMax);
}

TEST_CASE("pacer: rounds begin at the start threshold, whatever it is", "[pacer]") {
  for (const int start : {0, 10, 50, 80, 95, 99}) {
    CAPTURE(start);
    Program p;
    p.settings.start_percent = start;
    p.hold_to(99 * kMiB + kMiB / 2);
    CHECK(p.rounds > 0);
    for (const int64_t headroom : p.round_headroom) {
      CHECK(p.limit - headroom >= p.limit / 100 * start);
    }
  }
}

TEST_CASE("pacer: the first round comes a quantum beyond start", "[pacer]") {
  Program p;
  p.fill_to(50 * kMiB);
  CHECK(p.rounds == 0);
  p.fill(p.quantum);
  CHECK(p.rounds == 1);
  CHECK(p.wanted == p.quantum);
}

TEST_CASE("pacer: with start at 100 % only the limit itself triggers", "[pacer]") {
  Program p;
  p.settings.start_percent = 100;
  p.hold_to(100 * kMiB - 1);
  CHECK(p.rounds == 1);
  CHECK(p.round_headroom.at(0) <= 0);
}

TEST_CASE("pacer: levels rise at start, 98 % and the limit, and fall later", "[pacer]") {
  PacerState state;
  const auto level_at = [&state](int64_t tenths) {
    return pace({}, state, {100 * kMiB / 1000 * tenths, 100 * kMiB, 0, kKiB}).level;
  };
  CHECK(level_at(499) == Level::kLow);
  CHECK(level_at(501) == Level::kModerate);
  CHECK(level_at(485) == Level::kModerate);
  CHECK(level_at(479) == Level::kLow);
  CHECK(level_at(979) == Level::kModerate);
  CHECK(level_at(981) == Level::kCritical);
  CHECK(level_at(971) == Level::kCritical);
  CHECK(level_at(969) == Level::kModerate);
  CHECK(level_at(1001) == Level::kOver);
  CHECK(level_at(991) == Level::kOver);
  CHECK(level_at(989) == Level::kCritical);
  CHECK(level_at(1001) == Level::kOver);
  CHECK(level_at(600) == Level::kModerate);
  CHECK(level_at(100) == Level::kLow);
  CHECK(level_at(5000) == Level::kOver);
}

TEST_CASE("pacer: a level that is only read has no history", "[pacer]") {
  const auto level_of = [](int64_t tenths) {
    return memlimit::level_at({}, 100 * kMiB / 1000 * tenths, 100 * kMiB);
  };
  CHECK(level_of(1001) == Level::kOver);
  CHECK(level_of(999) == Level::kCritical);
  CHECK(level_of(979) == Level::kModerate);
  CHECK(level_of(499) == Level::kLow);
  CHECK(memlimit::level_at({}, 100 * kMiB, 0) == Level::kLow);
  CHECK(memlimit::level_at({}, -1, kMiB) == Level::kLow);
}

TEST_CASE("pacer: usage that trembles on a boundary does not make the level flap", "[pacer]") {
  for (const int64_t boundary : {500, 980, 1000}) {
    CAPTURE(boundary);
    PacerState state;
    Random random(3);
    int changes = 0;
    for (int i = 0; i < 10000; ++i) {
      const int64_t paced = 100 * kKiB * boundary + random.below(800 * kKiB) - 400 * kKiB;
      changes += pace({}, state, {paced, 100 * 1000 * kKiB, 0, kKiB}).level_changed ? 1 : 0;
    }
    CHECK(changes <= 2);  // up to the level below it, and over it
  }
}

TEST_CASE("pacer: a lowered limit takes effect at once", "[pacer]") {
  Program p;
  p.fill_to(80 * kMiB);
  p.limit = 60 * kMiB;
  const int64_t before = p.usage();
  const Decision d = p.look();
  CHECK(d.round_due);
  CHECK(d.level == Level::kOver);
  // The hook runs at once, so that there is no lag: overage and margin.
  CHECK(d.wanted_bytes == before - 60 * kMiB + memlimit::margin_for(60 * kMiB));
  CHECK(p.usage() < 60 * kMiB);
}

TEST_CASE("pacer: a raised limit lets go, and turning it off stops everything", "[pacer]") {
  Program p;
  p.fill_to(95 * kMiB);
  const int rounds = p.rounds;
  p.limit = 400 * kMiB;
  Decision d = p.look();
  CHECK(d.level == Level::kLow);
  CHECK(d.level_changed);
  p.limit = 0;
  p.hold(10 * kGiB);
  CHECK(p.rounds == rounds);
  CHECK(p.last.level == Level::kLow);
  p.limit = kGiB;
  d = p.look();
  CHECK(d.level == Level::kOver);
  CHECK(d.round_due);
}

// --- What is asked for ---

TEST_CASE("pacer: over the limit asks for the overage and the margin at once", "[pacer]") {
  PacerState state;
  pace({}, state, {40 * kMiB, 100 * kMiB, 40 * kMiB, 64 * kKiB});
  const Decision d = pace({}, state, {110 * kMiB, 100 * kMiB, 110 * kMiB, 64 * kKiB});
  CHECK(d.round_due);
  CHECK(d.wanted_bytes == 13 * kMiB);
  CHECK(d.level == Level::kOver);
  CHECK(d.level_changed);
}

TEST_CASE("pacer: never asks for more than there is", "[pacer]") {
  PacerState state;
  const Decision d = pace({}, state, {100, 90, 100, 1});
  CHECK(d.round_due);
  CHECK(d.wanted_bytes <= 100);
}

TEST_CASE("pacer: an obedient cache that is filled for ever rests at the target", "[pacer]") {
  for (const double obeys : {0.3, 0.5, 0.9, 1.0, 1.1, 2.0, 5.0, 10.0}) {
    for (const int64_t limit : {4 * kMiB, 64 * kMiB, 256 * kMiB, 8 * kGiB}) {
      CAPTURE(obeys, limit);
      Program p;
      p.limit = limit;
      p.obeys = obeys;
      p.quantum = quantum_for(limit, limit / 100 * 96, 1);
      for (int64_t filled = 0; filled < 3 * limit; filled += p.quantum) p.fill(p.quantum);
      int64_t lowest = kMax, highest = 0;
      for (int64_t filled = 0; filled < 3 * limit; filled += p.quantum) {
        p.fill(p.quantum);
        lowest = std::min(lowest, p.usage());
        highest = std::max(highest, p.usage());
      }
      // No oscillation wider than the margin, and all of it in the 90 % band.
      CHECK(highest - lowest <= memlimit::margin_for(limit));
      CHECK(lowest >= limit / 100 * 92);
      CHECK(highest <= limit / 1000 * 985);
      // What is left unused does not grow with the limit for ever.
      CHECK(limit - lowest <= memlimit::kReserveMaxBytes + memlimit::margin_for(limit));
    }
  }
}

TEST_CASE("pacer: a program that breathes below the limit keeps its cache", "[pacer]") {
  Program p;
  p.fill_to(50 * kMiB);
  for (int64_t work = 0; work < 42 * kMiB; work += p.quantum) p.hold(p.quantum);
  int64_t first = 0;
  for (int cycle = 0; cycle < 50; ++cycle) {
    if (cycle == 2) first = p.evicted;
    for (int64_t work = 0; work < 40 * kMiB; work += p.quantum) p.release(p.quantum);
    for (int64_t work = 0; work < 40 * kMiB; work += p.quantum) p.hold(p.quantum);
  }
  CHECK(first < 6 * kMiB);  // what the first ascent took
  CHECK(p.evicted == first);
}

TEST_CASE("pacer: churn without growth asks for nothing", "[pacer]") {
  Program p;
  p.fill_to(93 * kMiB);
  const int rounds = p.rounds;
  for (int i = 0; i < 100000; ++i) p.churn(p.quantum);
  CHECK(p.rounds <= rounds + 1);  // what was still owed for the way up
}

TEST_CASE("pacer: a single large block that fits does not empty the cache", "[pacer]") {
  Program p;
  p.fill_to(50 * kMiB);
  p.hold(44 * kMiB);
  CHECK(p.evicted <= 4 * kMiB);
}

TEST_CASE("pacer: usage that has fallen by itself is not pushed", "[pacer]") {
  Program p;
  p.fill_to(60 * kMiB);
  while (p.rounds == 0 || p.allocated != p.round_at.back() || p.usage() < 80 * kMiB)
    p.hold(p.quantum);
  const int rounds = p.rounds;
  // Just after a round the program takes most of a gap more, and then gives back a lot.
  for (int i = 0; i < 40; ++i) p.hold(p.quantum);
  REQUIRE(p.rounds == rounds);
  REQUIRE(p.state.owed_bytes > p.quantum);
  p.release(20 * kMiB);
  for (int i = 0; i < 1000; ++i) p.churn(p.quantum);
  CHECK(p.rounds == rounds);
}

TEST_CASE("pacer: a peak beyond the target is no licence to go there again", "[pacer]") {
  Program p;
  p.obeys = 0;
  p.fill_to(70 * kMiB);
  p.hold(60 * kMiB);
  REQUIRE(p.state.peak_bytes == 130 * kMiB);
  p.release(60 * kMiB);
  CHECK(p.state.peak_bytes == 96 * kMiB);  // growth counts from there, for what is above it
  p.obeys = 1;
  p.fill_to(97 * kMiB);
  CHECK(p.usage() <= 97 * kMiB);
  CHECK(p.evicted >= kMiB / 2);
}

TEST_CASE("pacer: a program that gave nearly everything back begins anew", "[pacer]") {
  Program p;
  p.fill_to(90 * kMiB);
  p.cache = 20 * kMiB;
  p.churn(1);
  const int rounds = p.rounds;
  p.fill_to(75 * kMiB);
  CHECK(p.rounds > rounds + 2);
}

TEST_CASE("pacer: an empty cache does not make hooks look stingy", "[pacer]") {
  Program p;
  p.fill_to(90 * kMiB);
  const double before = p.state.yield;
  p.hold(300 * kMiB);
  REQUIRE(p.cache == 0);
  CHECK(p.state.yield == before);
}

TEST_CASE("pacer: usage that rests above the target is brought back by churn", "[pacer]") {
  Program p;
  p.cache = 99 * kMiB;
  p.allocated = 99 * kMiB;
  p.look();
  for (int i = 0; i < 1000; ++i) p.churn(p.quantum);
  CHECK(p.usage() <= 96 * kMiB + p.quantum);
  CHECK(p.usage() >= 94 * kMiB);
}

TEST_CASE("pacer: a footprint that does not fall costs little more than was allocated", "[pacer]") {
  // Paced stays at 98 % whatever is freed; the hook frees all it is asked for, and some of that is
  // taken again while the round is under way.
  for (const int64_t taken : {0, 1, 2, 4}) {
    CAPTURE(taken);
    PacerState state;
    int64_t allocated = 98 * kMiB, asked = 0;
    for (int i = 0; i < 16000; ++i) {
      allocated += 64 * kKiB;
      const Decision d = pace({}, state, {98 * kMiB, 100 * kMiB, allocated, 64 * kKiB});
      if (!d.round_due) continue;
      asked += d.wanted_bytes;
      allocated += d.wanted_bytes * taken / 8;
      round_done(state, {d.wanted_bytes, d.wanted_bytes, 98 * kMiB, allocated});
    }
    CHECK(asked <= (allocated - 98 * kMiB) * 5 / 4 + 2 * kMiB);
  }
}

TEST_CASE("pacer: a hook that drops everything is not asked before the limit is near", "[pacer]") {
  Program p;
  p.obeys = 1e9;
  for (int i = 0; i < 100000; ++i) p.fill(p.quantum);
  // The first call finds out; from then on it is asked near the limit only.
  REQUIRE(p.round_headroom.size() > 3);
  for (size_t i = 1; i < p.round_headroom.size(); ++i) {
    CHECK(p.round_headroom[i] <= 5 * kMiB);
  }
}

// --- Cadence ---

TEST_CASE("pacer: the gap between rounds shrinks all the way to the limit", "[pacer]") {
  // A hook that gives little enough to let usage pass through the whole range.
  for (const double obeys : {0.13, 0.3}) {
    CAPTURE(obeys);
    Program p;
    p.limit = 1000 * kMiB;
    p.quantum = 4 * kKiB;
    p.obeys = obeys;
    int64_t held_share = 0;
    while (p.usage() < p.limit - kMiB) {
      // Half of what is allocated cannot be evicted: usage passes the target.
      if (++held_share % 2 == 0) {
        p.hold(p.quantum);
      } else {
        p.fill(p.quantum);
      }
      if (p.state.fruitless > 0) break;  // the cache is empty: back-off is another matter
    }
    REQUIRE(p.round_at.size() > 20);
    for (size_t i = 2; i < p.round_at.size(); ++i) {
      const int64_t before = p.round_at[i - 1] - p.round_at[i - 2];
      const int64_t gap = p.round_at[i] - p.round_at[i - 1];
      const int64_t fell = p.round_headroom[i - 1] - p.round_headroom[i - 2];
      // Where headroom grew (a round gave more than was filled) the gap may grow by a quarter of it.
      CHECK(gap <= before + std::max<int64_t>(fell, 0) / 4 + 2 * p.quantum);
    }
  }
}

TEST_CASE("pacer: no round is due before the promised look", "[pacer]") {
  Random random(4);
  for (int run = 0; run < 300; ++run) {
    CAPTURE(run);
    Program p;
    p.limit = (kMiB << random.below(12)) + random.below(kMiB);
    p.settings.start_percent = static_cast<int>(random.below(101));
    p.settings.growth_percent = random.below(3) == 0 ? 100 : 0;
    p.quantum = quantum_for(p.limit, 0, 1 + random.below(8));
    p.obeys = random.below(4) == 0 ? 0.0 : 2 * random.unit();
    const int64_t churns = random.below(3);
    p.look();
    for (int step = 0; step < 1000; ++step) {
      const int64_t bytes = 1 + random.below(p.limit / 200 + 2 * p.quantum);
      const int64_t kind = random.below(6 + churns);
      p.allocated += bytes;
      if (kind < 5) p.cache += bytes;
      if (kind == 5) p.held += bytes;
      if (kind == 6) p.held -= std::min(p.held, 2 * bytes);
      // Had we looked earlier (at a copy of the state), nothing would have been due.
      if (p.allocated < p.last.next_round_allocated_bytes) {
        if (p.allocated < p.state.looked_at_bytes + p.quantum) continue;  // never that early
        PacerState copy = p.state;
        REQUIRE_FALSE(
            pace(p.settings, copy, {p.usage(), p.limit, p.allocated, p.quantum}).round_due);
      } else {
        p.look();
        REQUIRE(p.last.next_round_allocated_bytes > p.allocated);
      }
    }
  }
}

TEST_CASE("pacer: at most one round is under way", "[pacer]") {
  PacerState state;
  int64_t allocated = 0;
  Decision d;
  while (!d.round_due) {
    allocated += 64 * kKiB;
    d = pace({}, state, {allocated, 100 * kMiB, allocated, 64 * kKiB});
  }
  for (int i = 0; i < 20; ++i) {
    allocated += 64 * kKiB;
    CHECK_FALSE(pace({}, state, {allocated, 100 * kMiB, allocated, 64 * kKiB}).round_due);
  }
  round_done(state, {d.wanted_bytes, d.wanted_bytes, allocated - d.wanted_bytes, allocated});
  bool due = false;
  for (int i = 0; i < 300 && !due; ++i) {
    allocated += 64 * kKiB;
    due = pace({}, state, {allocated, 100 * kMiB, allocated, 64 * kKiB}).round_due;
  }
  CHECK(due);
}

TEST_CASE("pacer: a round of which no end is reported is forgotten", "[pacer]") {
  PacerState state;
  pace({}, state, {0, 100 * kMiB, 0, 64 * kKiB});
  int64_t usage = 101 * kMiB;
  const Decision d = pace({}, state, {usage, 100 * kMiB, usage, 64 * kKiB});
  REQUIRE(d.round_due);
  int64_t allocated = usage;
  bool due = false;
  while (!due && allocated < 200 * kMiB) {
    allocated += 64 * kKiB;
    due = pace({}, state, {usage, 100 * kMiB, allocated, 64 * kKiB}).round_due;
  }
  REQUIRE(due);
  CHECK(allocated - usage >= 100 * kMiB / 8);
  CHECK(allocated - usage <= 100 * kMiB / 8 + d.wanted_bytes + 128 * kKiB);
}

TEST_CASE("pacer: a round that takes long below the limit is waited for", "[pacer]") {
  PacerState state;
  pace({}, state, {0, 100 * kMiB, 0, 64 * kKiB});
  Decision d = pace({}, state, {90 * kMiB, 100 * kMiB, 90 * kMiB, 64 * kKiB});
  REQUIRE(d.round_due);
  int64_t allocated = 90 * kMiB;
  do {
    allocated += 64 * kKiB;
    d = pace({}, state, {91 * kMiB + allocated / 1000, 100 * kMiB, allocated, 64 * kKiB});
  } while (!d.round_due && allocated < 1000 * kMiB);
  CHECK(allocated >= 290 * kMiB);
  CHECK(allocated <= 310 * kMiB);
}

TEST_CASE("pacer: a round that was skipped is not held against anyone", "[pacer]") {
  PacerState state;
  pace({}, state, {0, 100 * kMiB, 0, 64 * kKiB});
  REQUIRE(pace({}, state, {101 * kMiB, 100 * kMiB, 101 * kMiB, 64 * kKiB}).round_due);
  memlimit::round_skipped(state);
  CHECK(state.fruitless == 0);
  CHECK(pace({}, state, {101 * kMiB, 100 * kMiB, 102 * kMiB, 64 * kKiB}).round_due);
}

TEST_CASE("pacer: parts of a round count together, and a second end changes nothing", "[pacer]") {
  PacerState state;
  pace({}, state, {0, 100 * kMiB, 0, 64 * kKiB});
  const Decision d = pace({}, state, {110 * kMiB, 100 * kMiB, 110 * kMiB, 64 * kKiB});
  REQUIRE(d.wanted_bytes == 13 * kMiB);
  memlimit::round_partly_done(state, 12 * kMiB);
  round_done(state, {kMiB, kMiB, 97 * kMiB, 110 * kMiB});
  CHECK(state.fruitless == 0);
  CHECK(state.freed_bytes == 13 * kMiB);
  const PacerState after = state;
  round_done(state, {kMiB, 0, 97 * kMiB, 110 * kMiB});
  CHECK(state.fruitless == after.fruitless);
  CHECK(state.peak_bytes == after.peak_bytes);
}

// --- Storms and back-off ---

TEST_CASE("pacer: a leak sees a bounded number of rounds for each byte", "[pacer]") {
  for (const int64_t limit : {kMiB, 64 * kMiB, kGiB}) {
    CAPTURE(limit);
    Program p;
    p.limit = limit;
    p.quantum = quantum_for(limit, 2 * limit, 1);
    p.obeys = 0;
    while (p.allocated < 20 * limit) p.hold(p.quantum);
    CHECK(p.rounds <= 20 * 16 + 60);
    CHECK(p.rounds >= 20 * 16 - 60);  // and is not left alone
  }
}

TEST_CASE("pacer: back-off ends with the first round that brings something", "[pacer]") {
  Program p;
  p.obeys = 0;
  while (p.allocated < 300 * kMiB) p.fill(p.quantum);
  REQUIRE(p.state.fruitless > 5);
  p.obeys = 1;
  for (int64_t more = 0; more <= p.limit / 16; more += p.quantum) p.fill(p.quantum);
  CHECK(p.state.fruitless == 0);
  CHECK(p.usage() < p.limit);
}

TEST_CASE("pacer: back-off ends when the level rises", "[pacer]") {
  PacerState state;
  pace({}, state, {97 * kMiB, 100 * kMiB, 97 * kMiB, 64 * kKiB});
  state.fruitless = 10;
  pace({}, state, {97 * kMiB, 100 * kMiB, 97 * kMiB, 64 * kKiB});
  CHECK(state.fruitless == 10);
  pace({}, state, {98 * kMiB, 100 * kMiB, 98 * kMiB, 64 * kKiB});
  CHECK(state.fruitless == 0);

  Program p;
  p.obeys = 0;
  p.hold_to(98 * kMiB - 10 * p.quantum);
  REQUIRE(p.state.fruitless > 2);
  // Backed off, the next round would be 6 MiB away; critical is 640 KiB away.
  const int before = p.rounds;
  p.hold_to(98 * kMiB + p.quantum);
  REQUIRE(p.last.level == Level::kCritical);
  p.hold_to(98 * kMiB + 12 * p.quantum);
  CHECK(p.rounds > before);
  p.hold(3 * kMiB);  // straight over: at once
  CHECK(p.round_at.back() == p.allocated);
}

TEST_CASE("pacer: hooks that had nothing are asked at each half of the headroom", "[pacer]") {
  Program p;
  p.limit = kGiB;
  p.obeys = 0;
  p.hold_to(p.limit - p.quantum);
  int between = 0;
  for (size_t i = 1; i < p.round_headroom.size(); ++i) {
    const int64_t before = p.round_headroom[i - 1], now = p.round_headroom[i];
    if (before > p.limit * 30 / 100) continue;
    CAPTURE(before, now);
    CHECK(now >= before / 2 - 2 * p.quantum);
    if (now >= p.limit * 3 / 100) ++between;
  }
  CHECK(between >= 3); /* from 70 to 97 % of the limit */
  CHECK(p.rounds < 60);
}

TEST_CASE("pacer: claims that usage does not confirm are fruitless", "[pacer]") {
  Program honest, liar;
  honest.obeys = liar.obeys = 0;
  liar.claims = true;
  for (Program* p : {&honest, &liar}) {
    while (p->allocated < 500 * kMiB) p->hold(p->quantum);
  }
  // Allocation while a round is under way leaves a little to believe, but here there was none.
  CHECK(liar.rounds == honest.rounds);
}

TEST_CASE("pacer: an oversized request that is freed again leaves no storm", "[pacer]") {
  Program p;
  p.fill_to(90 * kMiB);
  for (int i = 0; i < 20; ++i) {
    const int before = p.rounds;
    const Decision d = p.hold(300 * kMiB);
    CHECK(d.round_due);  // the round follows at once
    for (int n = 0; n < 100; ++n) p.churn(p.quantum);
    p.release(300 * kMiB);
    for (int n = 0; n < 100; ++n) p.churn(p.quantum);
    CHECK(p.rounds - before <= 12);
    CHECK(p.usage() < p.limit);
    const int after = p.rounds;
    for (int n = 0; n < 5000; ++n) p.churn(p.quantum);
    CHECK(p.rounds == after);
    p.fill_to(85 * kMiB);
  }
}

TEST_CASE("pacer: below the limit within a few rounds when enough can be freed", "[pacer]") {
  Random random(5);
  for (int run = 0; run < 2000; ++run) {
    Program p;
    p.limit = (kMiB << random.below(16)) + random.below(kMiB);
    p.settings.start_percent = static_cast<int>(random.below(101));
    p.quantum = quantum_for(p.limit, p.limit, 1 + random.below(16));
    p.obeys = 0.3 + 3 * random.unit();
    CAPTURE(run, p.limit, p.obeys, p.settings.start_percent);
    p.held = random.below(p.limit / 2);
    p.cache = p.limit + random.below(3 * p.limit);
    p.allocated = p.usage();
    for (int looks = 0; looks < 40 && p.usage() >= p.limit; ++looks) p.churn(p.quantum);
    REQUIRE(p.usage() < p.limit);
    REQUIRE(p.rounds <= 30);
  }
}

TEST_CASE("pacer: random programs see no storm and no round below start", "[pacer]") {
  Random random(6);
  for (int run = 0; run < 100; ++run) {
    Program p;
    p.limit = (4 * kMiB << random.below(10)) + random.below(kMiB);
    p.settings.start_percent = static_cast<int>(random.below(91));
    p.quantum = quantum_for(p.limit, p.limit / 2, 1 + random.below(4));
    CAPTURE(run, p.limit, p.settings.start_percent);
    p.obeys = random.unit();
    int64_t fill_share = random.below(100);
    while (p.allocated < 6 * p.limit) {
      if (random.below(2000) == 0) fill_share = random.below(100);
      if (random.below(2000) == 0) p.obeys = random.below(3) == 0 ? 0 : 3 * random.unit();
      const int64_t bytes = 1 + random.below(2 * p.quantum);
      if (random.below(100) < fill_share) {
        p.fill(bytes);
      } else if (p.held < p.limit / 2 && random.below(2) == 0) {
        p.hold(bytes);
      } else {
        p.held -= std::min(p.held, bytes);
        p.churn(bytes);
      }
    }
    // The closest two rounds can be for long is a quarter of the headroom at the target: 1 %.
    REQUIRE(p.rounds <= 6 * 130 + 60);
    for (const int64_t headroom : p.round_headroom) {
      REQUIRE(p.limit - headroom >= p.limit / 100 * p.settings.start_percent);
    }
  }
}

// --- MEMLIMIT_GROWTH ---

TEST_CASE("pacer: the growth trigger works without a limit and below start", "[pacer]") {
  for (const int64_t limit : {int64_t{0}, 100 * kGiB}) {
    CAPTURE(limit);
    Program p;
    p.limit = limit;
    p.settings.growth_percent = 100;
    p.obeys = 0;
    p.quantum = 64 * kKiB;
    while (p.usage() < 64 * kMiB) p.fill(p.quantum);
    CHECK(p.round_at == std::vector<int64_t>{4 * kMiB, 8 * kMiB, 16 * kMiB, 32 * kMiB, 64 * kMiB});
    CHECK(p.last.level == Level::kLow);
  }
}

TEST_CASE("pacer: the growth trigger lets a cache grow", "[pacer]") {
  Program p;
  p.limit = 0;
  p.settings.growth_percent = 50;
  for (int i = 0; i < 16 * 200; ++i) p.fill(p.quantum);
  CHECK(p.usage() > 150 * kMiB);
  CHECK(p.evicted > 0);
  CHECK(p.evicted < 50 * kMiB);
}

TEST_CASE("pacer: the lower of the two triggers wins", "[pacer]") {
  Program p;
  p.settings.growth_percent = 100;
  p.obeys = 0;
  p.fill_to(90 * kMiB);
  CHECK(p.limit - p.round_headroom.at(0) == 4 * kMiB);  // growth, below start
  CHECK(p.rounds > 6);                                  // headroom, above it
}

// --- Any numbers ---

TEST_CASE("pacer: any numbers give a decision in range", "[pacer]") {
  Random random(7);
  const auto any = [&random]() -> int64_t {
    switch (random.below(8)) {
      case 0:
        return 0;
      case 1:
        return 1;
      case 2:
        return kMax;
      case 3:
        return kMax - random.below(100);
      case 4:
        return -random.below(kMax);
      case 5:
        return std::numeric_limits<int64_t>::min();
      default:
        return random.below(kMax) >> random.below(63);
    }
  };
  for (int run = 0; run < 600; ++run) {
    PacerState state;
    PacerSettings settings{static_cast<int>(random.below(140)) - 20,
                           static_cast<int>(random.below(1000)) - 100};
    int64_t limit = any();
    for (int step = 0; step < 100; ++step) {
      if (random.below(10) == 0) limit = any();
      const PacerInput in{any(), limit, any(), any(), random.below(2) == 0 ? -1 : any()};
      const Decision d = pace(settings, state, in);
      REQUIRE(d.wanted_bytes >= 0);
      REQUIRE(d.round_due == (d.wanted_bytes > 0));
      REQUIRE(d.wanted_bytes <= std::max<int64_t>(in.paced_bytes, 0));
      REQUIRE(d.next_round_allocated_bytes >= in.allocated_bytes);
      REQUIRE((d.level >= Level::kLow && d.level <= Level::kOver));
      REQUIRE((limit > 0 || d.level == Level::kLow));
      REQUIRE(state.peak_bytes >= 0);
      REQUIRE(state.owed_bytes >= 0);
      REQUIRE(state.lag_bytes >= 0);
      REQUIRE(state.lump_bytes >= 0);
      REQUIRE((state.yield >= memlimit::kYieldMin && state.yield <= memlimit::kYieldMax));
      if (random.below(2) == 0) round_done(state, {any(), any(), any(), any()});
      if (random.below(4) == 0) memlimit::round_partly_done(state, any());
      if (random.below(8) == 0) memlimit::round_skipped(state);
      REQUIRE(quantum_for(limit, in.paced_bytes, any()) >= memlimit::kQuantumMinBytes);
      REQUIRE(memlimit::still_wanted(any(), any(), any(), any(), any()) >= 0);
    }
  }
}
