/* Waiting for a step of a pass: not without one, not where it brings nothing, and not for ever even where it is insisted
 * on. The test plays the service thread, too. */
#include "assist.h"

#include <algorithm>

#include <catch2/catch.hpp>

#include "os.h"

namespace assist = memlimit::assist;

namespace {

constexpr int64_t kWaitNs = 1'000'000;
constexpr int64_t kPatienceNs = 20'000'000'000; /* for a machine that has much else to do */

/* Waits are on for one test. */
struct Waits {
  Waits() {
    assist::reset_after_fork();
    assist::configure(kWaitNs);
  }
  ~Waits() {
    assist::work_done();
    assist::configure(0);
    assist::reset_after_fork();
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
  assist::step_done();
  CHECK(waits(true));
  REQUIRE(gives_up());
}

TEST_CASE("assist: after a wait that brought nothing there is a pause, longer each time",
          "[assist]") {
  constexpr int64_t kLongestNs = 2'000'000;
  assist::Pause pause;
  CHECK(pause.is_over(0));
  int64_t now_ns = 1'000'000'000;
  for (int i = 0; i < 20; ++i) {
    CAPTURE(i);
    pause.learn({kLongestNs, now_ns, kLongestNs, assist::kProgressBytes - 1});
    now_ns += kLongestNs;
    const int64_t pause_ns = kLongestNs << std::min(i, assist::kMostDoublings);
    CHECK_FALSE(pause.is_over(now_ns + pause_ns - 1));
    now_ns += pause_ns;
    CHECK(pause.is_over(now_ns));
  }
  /* One that was worth it makes the next pause short again. */
  pause.learn({kLongestNs, now_ns, kLongestNs, assist::kProgressBytes});
  CHECK(pause.is_over(now_ns));
  pause.learn({kLongestNs, now_ns, kLongestNs, 0});
  CHECK_FALSE(pause.is_over(now_ns + 2 * kLongestNs - 1));
  CHECK(pause.is_over(now_ns + 2 * kLongestNs));
  pause.reset();
  CHECK(pause.is_over(0));
}

TEST_CASE("assist: a short wait tells nothing, and threads that wait together count once",
          "[assist]") {
  constexpr int64_t kLongestNs = 2'000'000;
  constexpr int64_t kBeganNs = 1'000'000'000;
  assist::Pause pause;
  pause.learn({kLongestNs, kBeganNs, kLongestNs / assist::kTellingDivisor - 1, 0});
  CHECK(pause.is_over(kBeganNs));
  for (int i = 0; i < 8; ++i) pause.learn({kLongestNs, kBeganNs + i, kLongestNs, 0});
  CHECK(pause.is_over(kBeganNs + 2 * kLongestNs));
  CHECK_FALSE(pause.is_over(kBeganNs + 2 * kLongestNs - 1));
}
