/* The look at a program that has come to rest above its limit. The figures are the test process's own, nothing of which the
 * pretended heap uses; a turn of the service thread is a call. */
#include "engine/rest_watch.h"

#include <cstdint>

#include <catch2/catch.hpp>

#include "engine/configure.h"
#include "engine/decision.h"
#include "engine/footprint.h"
#include "engine/limit_setting.h"
#include "engine/paced.h"
#include "engine/pressure.h"
#include "support/pretended_allocator.h"
#include "system/os.h"

namespace pretended = memlimit::test::pretended;
namespace rest_watch = memlimit::rest_watch;
using memlimit::LimitKind;
using memlimit::LimitSource;

namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

/* Half of what the process holds, while it lives. */
class LowLimit {
 public:
  LowLimit() {
    memlimit::Config config;
    config.account = memlimit::AccountMode::kRss;
    memlimit::engine::configure(config, pretended::kOps);
    memlimit::footprint::read();
    bytes_ = memlimit::paced::footprint_bytes() / 2;
    memlimit::limit_setting::apply({LimitKind::kBytes, bytes_, 0}, LimitSource::kEnvironment);
    end_look();
  }
  ~LowLimit() {
    memlimit::limit_setting::apply({}, LimitSource::kEnvironment);
    end_look();
    rest_watch::kForkPart.reset();
  }
  LowLimit(const LowLimit&) = delete;
  LowLimit& operator=(const LowLimit&) = delete;

  int64_t bytes() const { return bytes_; }

 private:
  /* What setting the limit has asked for. */
  static void end_look() { rest_watch::kForkPart.reset(); }

  int64_t bytes_;
};

/* How long after this the look is due. */
int64_t asks_for_look() {
  const int64_t now_ns = memlimit::os::monotonic_ns();
  rest_watch::note(memlimit::decision::purge_input());
  const int64_t due_ns = rest_watch::kTask.due_ns();
  return due_ns == INT64_MAX ? -1 : due_ns - now_ns;
}

/* How many purges a turn brings. */
int turn(int64_t now_ns) {
  const int before = pretended::purges;
  rest_watch::kTask.run({now_ns, memlimit::service::Turn::Ready::kNo});
  return pretended::purges - before;
}

}  // namespace

TEST_CASE("rest watch: what is idle above the limit is purged when the program rests", "[purge]") {
  const LowLimit limit;
  CHECK(asks_for_look() >= kSecondNs);
  const int64_t due_ns = rest_watch::kTask.due_ns();
  CHECK(asks_for_look() < due_ns);
  CHECK(rest_watch::kTask.due_ns() == due_ns);  // who looks again does not put it off
  CHECK(turn(due_ns - 1) == 0);
  CHECK(turn(due_ns) == 1);
  CHECK(rest_watch::kTask.due_ns() == INT64_MAX);
  CHECK(turn(due_ns + kSecondNs) == 0);
}

TEST_CASE("rest watch: a program that goes on allocating is looked at until it rests", "[purge]") {
  const LowLimit limit;
  REQUIRE(asks_for_look() > 0);
  for (int looks = 0; looks < 3; ++looks) {
    const int64_t due_ns = rest_watch::kTask.due_ns();
    memlimit::pressure::add_touched(limit.bytes());
    CHECK(turn(due_ns) == 0);
    REQUIRE(rest_watch::kTask.due_ns() != INT64_MAX);
  }
  CHECK(turn(rest_watch::kTask.due_ns()) == 1);
  CHECK(rest_watch::kTask.due_ns() == INT64_MAX);
}

TEST_CASE("rest watch: after a purge that gave nothing the next look is further away", "[purge]") {
  const LowLimit limit;
  for (const int64_t seconds : {1, 1, 2, 4}) {
    CHECK(asks_for_look() >= seconds * kSecondNs);
    CHECK(turn(rest_watch::kTask.due_ns()) == 1);
  }
  REQUIRE(asks_for_look() > 0);
  pretended::idle_bytes = limit.bytes();
  CHECK(turn(rest_watch::kTask.due_ns()) == 1);
  REQUIRE(asks_for_look() > 0);
  CHECK(turn(rest_watch::kTask.due_ns()) == 1);
  REQUIRE(asks_for_look() > 0);
  CHECK(rest_watch::kTask.due_ns() - memlimit::os::monotonic_ns() <= kSecondNs);
}

TEST_CASE("rest watch: below the limit nobody is woken", "[purge]") {
  const LowLimit limit;
  memlimit::PurgeInput in = memlimit::decision::purge_input();
  in.counted_bytes = in.limit_bytes;
  rest_watch::note(in);
  CHECK(rest_watch::kTask.due_ns() == INT64_MAX);
  in.counted_bytes = in.limit_bytes + 1;
  in.usage_bytes = in.held_bytes;
  rest_watch::note(in);
  CHECK(rest_watch::kTask.due_ns() == INT64_MAX);
}
