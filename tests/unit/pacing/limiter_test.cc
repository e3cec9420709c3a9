/* The limiter: its arithmetic against numbers worked out by hand. (Go shipped `limit * (100 - 5)`
 * where 95 % was meant, and no test noticed.) */
#include "pacing/limiter.h"

#include <cstdint>
#include <limits>

#include <catch2/catch.hpp>

using memlimit::enabled;
using memlimit::limiter_fill_percent;
using memlimit::limiter_round_done;
using memlimit::limiter_update;
using memlimit::LimiterChange;
using memlimit::LimiterState;

namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

// Clocks that only move when told to.
struct Process {
  LimiterState state;
  int64_t cores = 1;
  int64_t now = 0, cpu = 0, reclaim = 0, stalled = 0;

  Process() { update(); }
  explicit Process(int64_t n) : cores(n) { update(); }
  LimiterChange update() { return limiter_update(state, now, cpu, reclaim, cores, stalled); }
  // The program computes for so long (on one core).
  LimiterChange work(int64_t ms) {
    now += ms * kMs;
    cpu += ms * kMs;
    return update();
  }
  // A round takes so long, nothing else runs.
  LimiterChange round(int64_t ms) {
    now += ms * kMs;
    cpu += ms * kMs;
    reclaim += ms * kMs;
    return update();
  }
  LimiterChange idle(int64_t ms) {
    now += ms * kMs;
    return update();
  }
};

}  // namespace

TEST_CASE("limiter: the first reading only starts the clocks", "[limiter]") {
  LimiterState s;
  CHECK(limiter_update(s, 5000 * kMs, 4000 * kMs, 3000 * kMs, 1) == LimiterChange::kNone);
  CHECK(s.fill_ns == 0);
  CHECK(s.capacity_ns == 1000 * kMs);
}

TEST_CASE("limiter: fills with reclaim, drains one to one with the program", "[limiter]") {
  Process p;
  // 100 ms of CPU, 70 of them reclaim: 70 in, 30 out.
  p.now += 100 * kMs;
  p.cpu += 100 * kMs;
  p.reclaim += 70 * kMs;
  CHECK(p.update() == LimiterChange::kNone);
  CHECK(p.state.fill_ns == 40 * kMs);
  CHECK(limiter_fill_percent(p.state) == 4);
  p.work(25);
  CHECK(p.state.fill_ns == 15 * kMs);
  p.round(5);
  CHECK(p.state.fill_ns == 20 * kMs);
}

TEST_CASE("limiter: work earns no credit", "[limiter]") {
  Process p;
  p.work(60'000);
  CHECK(p.state.fill_ns == 0);
  p.round(999);
  CHECK(p.state.fill_ns == 999 * kMs);
  CHECK_FALSE(enabled(p.state));
  CHECK(p.round(1) == LimiterChange::kCameOn);
}

TEST_CASE("limiter: exactly half of the CPU is not too much, more is", "[limiter]") {
  Process p;
  for (int i = 0; i < 100'000; ++i) {
    p.round(10);
    p.work(10);
  }
  CHECK(p.state.episodes == 0);
  CHECK(p.state.fill_ns == 0);
  for (int i = 0; i < 1000; ++i) {
    p.round(11);
    p.work(10);
  }
  CHECK(p.state.episodes == 1);  // a second of 1 ms steps, less the last
}

TEST_CASE("limiter: the capacity is a CPU-second for each core", "[limiter]") {
  Process p(4);
  CHECK(p.round(3999) == LimiterChange::kNone);
  CHECK(limiter_fill_percent(p.state) == 99);
  CHECK(p.round(1) == LimiterChange::kCameOn);
  CHECK(limiter_fill_percent(p.state) == 100);
}

TEST_CASE("limiter: comes on full, goes off half empty, and counts", "[limiter]") {
  Process p(2);
  p.round(1500);
  limiter_round_done(p.state, 610);
  CHECK(p.round(500) == LimiterChange::kCameOn);
  CHECK(enabled(p.state));
  CHECK(p.state.episodes == 1);
  CHECK(p.state.needed_bytes == 610);
  CHECK(p.state.on_since_ns == 2000 * kMs);
  memlimit::limiter_round_skipped(p.state);
  memlimit::limiter_round_skipped(p.state);
  CHECK(p.state.skipped == 2);
  CHECK(p.work(999) == LimiterChange::kNone);
  CHECK(enabled(p.state));
  CHECK(p.work(1) == LimiterChange::kWentOff);
  CHECK_FALSE(enabled(p.state));
  CHECK(p.state.on_total_ns == 1000 * kMs);
  CHECK(p.state.fill_ns == 1000 * kMs);
  // The next episode needs half a bucket only.
  CHECK(p.round(999) == LimiterChange::kNone);
  CHECK(p.round(1) == LimiterChange::kCameOn);
  CHECK(p.state.episodes == 2);
}

TEST_CASE("limiter: what found the bucket full is counted and not kept", "[limiter]") {
  Process p;
  p.round(900);
  p.round(400);
  CHECK(p.state.fill_ns == 1000 * kMs);
  CHECK(p.state.overflow_ns == 300 * kMs);
  p.work(500);
  CHECK_FALSE(enabled(p.state));
}

TEST_CASE("limiter: reclaim that ignores nothing stays near half of the CPU", "[limiter]") {
  // A reclaimer that runs whenever it may, beside a program that uses the rest of one core.
  Process p;
  for (int i = 0; i < 1'000'000; ++i) {
    if (enabled(p.state)) {
      p.work(1);
    } else {
      p.round(1);
    }
  }
  CHECK(p.reclaim <= p.cpu / 2 + 1000 * kMs);
  CHECK(p.reclaim >= p.cpu / 2 - 1000 * kMs);
}

TEST_CASE("limiter: an idle program gets its limit back, slowly", "[limiter]") {
  Process p;
  REQUIRE(p.round(1000) == LimiterChange::kCameOn);
  // 1 % of the wall time drains: 500 ms take 50 s.
  CHECK(p.idle(49'999) == LimiterChange::kNone);
  CHECK(p.idle(1) == LimiterChange::kWentOff);
}

TEST_CASE("limiter: an episode ends with the limit, and the bucket keeps what it holds",
          "[limiter]") {
  Process p;
  CHECK(memlimit::limiter_release(p.state) == LimiterChange::kNone);
  REQUIRE(p.round(1000) == LimiterChange::kCameOn);
  CHECK(memlimit::limiter_release(p.state) == LimiterChange::kWentOff);
  CHECK_FALSE(enabled(p.state));
  CHECK(p.state.fill_ns == 1000 * kMs);
  CHECK(p.work(1) == LimiterChange::kNone);
  CHECK(p.round(1) == LimiterChange::kCameOn);
  CHECK(p.state.episodes == 2);
}

TEST_CASE("limiter: reclaim alone in an idle program takes 1 % of a core", "[limiter]") {
  // Only the service thread runs: another process of the container presses, say.
  Process p;
  int64_t ran = 0;
  for (int i = 0; i < 100'000; ++i) {
    p.idle(90);
    if (enabled(p.state)) {
      p.idle(10);
    } else {
      p.round(10);
      ran += 10;
    }
  }
  CHECK(ran <= p.now / kMs / 100 + 1000 + 10);
  CHECK(ran >= p.now / kMs / 100 - 1000);
}

TEST_CASE("limiter: a program that works little drains with its work or 1 %, not both",
          "[limiter]") {
  Process p;
  p.round(800);
  p.now += 1000 * kMs;
  p.cpu += 5 * kMs;  // less than the 10 ms that the wall clock gives
  p.update();
  CHECK(p.state.fill_ns == 790 * kMs);
  p.now += 1000 * kMs;
  p.cpu += 50 * kMs;
  p.update();
  CHECK(p.state.fill_ns == 740 * kMs);
}

TEST_CASE("limiter: waiting for rounds counts where it exceeds their CPU time", "[limiter]") {
  Process p(4);
  // A round of 10 ms for which four threads waited 5 ms each: 20 ms lost to the program.
  p.now += 10 * kMs;
  p.cpu += 10 * kMs;
  p.reclaim += 10 * kMs;
  p.stalled += 20 * kMs;
  p.update();
  CHECK(p.state.fill_ns == 20 * kMs);
  // A hook that sleeps: no CPU at all, and everybody waits.
  p.now += 10 * kMs;
  p.stalled += 5 * kMs;
  p.update();
  CHECK(p.state.fill_ns == 25 * kMs - 10 * kMs / 100);
  // Waiting less than the round took adds nothing.
  p.now += 10 * kMs;
  p.cpu += 10 * kMs;
  p.reclaim += 10 * kMs;
  p.stalled += 3 * kMs;
  p.update();
  CHECK(p.state.fill_ns == 35 * kMs - 10 * kMs / 100);
}

TEST_CASE("limiter: a long round that is reported in one piece counts in full", "[limiter]") {
  // 100 ms of reclaim, of which updates in between saw only the process's CPU time.
  Process p;
  p.round(500);
  for (int i = 0; i < 9; ++i) p.work(10);  // taken for the program's
  CHECK(p.state.fill_ns == 410 * kMs);
  p.now += 10 * kMs;
  p.cpu += 10 * kMs;
  p.reclaim += 100 * kMs;
  p.update();
  CHECK(p.state.fill_ns == 600 * kMs);
}

TEST_CASE("limiter: clocks that stand still or go backwards are no time", "[limiter]") {
  Process p;
  p.round(400);
  CHECK(p.update() == LimiterChange::kNone);
  CHECK(p.state.fill_ns == 400 * kMs);
  p.now -= 200 * kMs;
  p.cpu -= 300 * kMs;
  p.reclaim -= 300 * kMs;
  p.stalled -= 100 * kMs;
  p.update();
  CHECK(p.state.fill_ns == 400 * kMs);
  // And from there time goes on as usual.
  p.work(100);
  CHECK(p.state.fill_ns == 300 * kMs);
}

TEST_CASE("limiter: the estimate of the live set is the lowest usage that rounds reached",
          "[limiter]") {
  Process p;
  limiter_round_done(p.state, 100);  // before the bucket fills: of no interest
  p.work(1);
  CHECK(p.state.lowest_paced_bytes == -1);
  p.round(400);
  limiter_round_done(p.state, 700);
  p.round(50);
  limiter_round_done(p.state, 620);
  // Past half, the estimate begins anew: the program may have grown since.
  p.round(100);
  CHECK(p.state.lowest_paced_bytes == -1);
  limiter_round_done(p.state, 660);
  p.round(100);
  limiter_round_done(p.state, 650);
  p.round(100);
  limiter_round_done(p.state, 680);
  CHECK(p.round(400) == LimiterChange::kCameOn);
  CHECK(p.state.needed_bytes == 650);
  limiter_round_done(p.state, -5);
  CHECK(p.state.lowest_paced_bytes == 0);
}

TEST_CASE("limiter: an episode knows what reclaim took while the bucket filled", "[limiter]") {
  Process p;
  p.work(5000);  // long ago, with an empty bucket: not part of it
  p.round(700);
  p.work(100);
  CHECK(p.round(400) == LimiterChange::kCameOn);
  CHECK(p.state.took_reclaim_ns == 1100 * kMs);
  CHECK(p.state.took_process_ns == 1200 * kMs);
  // From the end of that episode on, the bucket half full.
  CHECK(p.work(500) == LimiterChange::kWentOff);
  CHECK(p.round(500) == LimiterChange::kCameOn);
  CHECK(p.state.took_reclaim_ns == 500 * kMs);
  CHECK(p.state.took_process_ns == 500 * kMs);
  // Of waiting that filled it, the time that was waited.
  Process q;
  for (int i = 0; i < 2; ++i) {
    q.stalled += 600 * kMs;
    q.work(50);
  }
  CHECK(enabled(q.state));
  CHECK(q.state.took_reclaim_ns == 1200 * kMs);
  CHECK(q.state.took_process_ns == 100 * kMs);
}

TEST_CASE("limiter: without a round there is no estimate yet", "[limiter]") {
  Process p;
  CHECK(p.round(1000) == LimiterChange::kCameOn);
  CHECK(p.state.needed_bytes == 0);
  // It came on in the middle of the first round: its end tells.
  limiter_round_done(p.state, 610);
  CHECK(p.state.needed_bytes == 610);
  limiter_round_done(p.state, 600);
  CHECK(p.state.needed_bytes == 610);
}

TEST_CASE("limiter: a change of cores changes the capacity", "[limiter]") {
  Process p(4);
  p.round(3000);
  CHECK_FALSE(enabled(p.state));
  p.cores = 2;
  CHECK(p.update() == LimiterChange::kCameOn);  // 3 s do not fit into 2
  CHECK(p.state.fill_ns == 2000 * kMs);
  p.cores = 8;
  CHECK(p.update() == LimiterChange::kWentOff);  // and are a quarter of 8
}

TEST_CASE("limiter: any numbers keep the invariant", "[limiter]") {
  uint64_t seed = 1;
  const auto any = [&seed]() -> int64_t {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    const auto value = static_cast<int64_t>(seed >> 1);
    switch (seed >> 61) {
      case 0:
        return kMax;
      case 1:
        return std::numeric_limits<int64_t>::min();
      case 2:
        return 0;
      case 3:
        return -(value >> 20);
      case 4:
        return value;
      default:
        return value >> 30;
    }
  };
  for (int run = 0; run < 300; ++run) {
    LimiterState s;
    for (int i = 0; i < 100; ++i) {
      const bool before = enabled(s);
      const LimiterChange change = limiter_update(s, any(), any(), any(), any(), any());
      REQUIRE(s.fill_ns >= 0);
      REQUIRE(s.fill_ns <= s.capacity_ns);
      REQUIRE((change == LimiterChange::kCameOn) == (!before && enabled(s)));
      REQUIRE((change == LimiterChange::kWentOff) == (before && !enabled(s)));
      REQUIRE(limiter_fill_percent(s) >= 0);
      REQUIRE(limiter_fill_percent(s) <= 100);
      limiter_round_done(s, any());
    }
  }
}
