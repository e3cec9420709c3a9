/* Waiting for a step of a pass: not without one, not where it brings nothing, and not for ever even where it is insisted
 * on. The test plays the service thread, too. */
#include "engine/assist.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include <catch2/catch.hpp>

#include "system/os.h"

namespace assist = memlimit::assist;

namespace {

constexpr int64_t kWaitNs = 1'000'000;
constexpr int64_t kPatienceNs = 20'000'000'000; /* for a machine that has much else to do */

/* Waits are on for one test. */
struct Waits {
  Waits() {
    assist::kForkPart.reset();
    assist::configure(kWaitNs);
  }
  ~Waits() {
    assist::work_done();
    assist::configure(0);
    assist::kForkPart.reset();
  }
  Waits(const Waits&) = delete;
  Waits& operator=(const Waits&) = delete;
};

/* Whether the call waited. */
bool waits(bool insist) {
  memlimit_stats before{}, after{};
  assist::fill(&before);
  assist::wait(insist);
  assist::fill(&after);
  return after.assists > before.assists;
}

/* False when it goes on insisting. */
bool gives_up() {
  const int64_t until_ns = memlimit::os::monotonic_ns() + kPatienceNs;
  while (waits(true)) {
    if (memlimit::os::monotonic_ns() >= until_ns) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("assist: nobody waits while nothing is asked for", "[assist]") {
  const Waits on;
  CHECK_FALSE(waits(false));
  CHECK_FALSE(waits(true));
  assist::work_requested();
  CHECK(waits(false));
  assist::work_done();
  CHECK_FALSE(waits(true));
}

TEST_CASE("assist: a step that does not end is not insisted on for ever", "[assist]") {
  const Waits on;
  assist::work_requested();
  CHECK(waits(true));
  REQUIRE(gives_up());
  for (int i = 0; i < 100; ++i) CHECK_FALSE(waits(true));
  /* A step that ends is a reason to wait for the next. */
  assist::step_done(0);
  CHECK(waits(true));
  REQUIRE(gives_up());
}

TEST_CASE("assist: after waits that bring nothing more and more steps are skipped", "[assist]") {
  assist::Skips skips;
  CHECK_FALSE(skips.take());
  for (uint32_t expected = assist::kFirstSkips; expected <= 4 * assist::kMostSkips; expected *= 2) {
    CAPTURE(expected);
    skips.learn({kWaitNs, kWaitNs, assist::kProgressBytes - 1});
    uint32_t skipped = 0;
    while (skips.take()) ++skipped;
    CHECK(skipped == std::min(expected, assist::kMostSkips));
  }
  /* One that was worth it makes them few again. */
  skips.learn({kWaitNs, kWaitNs, assist::kProgressBytes});
  CHECK_FALSE(skips.take());
  skips.learn({kWaitNs, kWaitNs, 0});
  skips.learn({kWaitNs, kWaitNs, 0});
  CHECK(skips.take());
  skips.reset();
  CHECK_FALSE(skips.take());
}

TEST_CASE("assist: short waits tell something together", "[assist]") {
  constexpr int64_t kShortNs = kWaitNs / 40;
  assist::Skips skips;
  for (int i = 0; i < 120; ++i) {
    skips.learn({kWaitNs, kShortNs, assist::kProgressBytes / 40 + 1});
    CHECK_FALSE(skips.take());
  }
  for (int i = 1; i <= 40; ++i) {
    CHECK_FALSE(skips.take());
    skips.learn({kWaitNs, kShortNs, 0});
  }
  CHECK(skips.take());
}

TEST_CASE("assist: neither a short wait nor one that lacked a processor was in vain", "[assist]") {
  assist::Skips skips;
  skips.learn({kWaitNs, kWaitNs / assist::kTellingDivisor - 1, 0});
  CHECK_FALSE(skips.take());
  skips.learn({kWaitNs, kWaitNs, 0, true});
  CHECK_FALSE(skips.take());
  skips.learn({kWaitNs, kWaitNs / assist::kTellingDivisor, 0});
  CHECK(skips.take());
}

namespace {

/* A thread that computes until it is told to end. */
class Computing {
 public:
  Computing() {
    while (tid_ == 0) std::this_thread::yield();
  }
  ~Computing() {
    ends_ = true;
    thread_.join();
  }
  Computing(const Computing&) = delete;
  Computing& operator=(const Computing&) = delete;

  int tid() const { return tid_; }

 private:
  std::atomic<int> tid_{0};
  std::atomic<bool> ends_{false};
  std::thread thread_{[this] {
    tid_ = memlimit::os::thread_id();
    while (!ends_) {
    }
  }};
};

}  // namespace

TEST_CASE("assist: a step whose thread lacks a processor is waited for again, at nobody's expense",
          "[assist]") {
  const Waits on;
  /* The thread that waits is found running, and has had no processor while it waited. */
  assist::set_worker(memlimit::os::thread_id());
  assist::work_requested();
  const int64_t before_ns = assist::waited_ns();
  CHECK(waits(false));
  CHECK(waits(false));
  CHECK(assist::waited_ns() == before_ns);
  assist::set_worker(0);
  CHECK(waits(false));
  CHECK(assist::waited_ns() == before_ns + kWaitNs);
  CHECK_FALSE(waits(false)); /* once for each step */
}

TEST_CASE("assist: not even where it lacks one is a step waited for for ever", "[assist]") {
  const Waits on;
  assist::set_worker(memlimit::os::thread_id());
  assist::work_requested();
  const int64_t until_ns = memlimit::os::monotonic_ns() + kPatienceNs;
  while (waits(false)) REQUIRE(memlimit::os::monotonic_ns() < until_ns);
  CHECK_FALSE(waits(false));
  assist::set_worker(0);
}

TEST_CASE("os: the processor time of another thread", "[os]") {
  const Computing computing;
  const int64_t before_ns = memlimit::os::thread_cpu_ns(computing.tid());
  const int64_t until_ns = memlimit::os::monotonic_ns() + kPatienceNs;
  while (memlimit::os::thread_cpu_ns(computing.tid()) - before_ns < 1'000'000)
    REQUIRE(memlimit::os::monotonic_ns() < until_ns);
  CHECK(memlimit::os::thread_cpu_ns(memlimit::os::thread_id()) > 0);
  CHECK(memlimit::os::thread_cpu_ns(1'000'000'000) == 0);
}
