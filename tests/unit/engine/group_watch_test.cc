/* Looks at the group by the service thread's task, with time and a container that the test sets. What is counted is
 * readings of the group. The module's state is the process's, so it begins anew in each test, as in a child of fork. */
#include "engine/group_watch.h"

#include <algorithm>
#include <string>

#include <catch2/catch.hpp>

#include "engine/configure.h"
#include "engine/limit_setting.h"
#include "engine/paced.h"
#include "engine/pressure.h"
#include "engine/program_work.h"
#include "support/pretended_allocator.h"
#include "support/recorded_tree.h"
#include "system/os.h"

namespace group_watch = memlimit::group_watch;
namespace limit_setting = memlimit::limit_setting;
namespace paced = memlimit::paced;
namespace program_work = memlimit::program_work;
namespace pressure = memlimit::pressure;
using memlimit::LimitKind;
using memlimit::LimitSource;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kSecond = 1'000'000'000;
/* Less than the recorded machine has, more than the test process holds. */
constexpr int64_t kContainer = int64_t{4} << 30;

constexpr int64_t share(int64_t bytes) { return bytes * 4 / 5; }

class Container {
 public:
  Container() {
    directory_.lay_out(
        memlimit::test::read_tree(std::string(MEMLIMIT_TEST_DATA "/cgroup/docker-v2.tree")));
    memlimit::Config config;
    config.account = memlimit::AccountMode::kAuto;
    memlimit::engine::configure(config, memlimit::test::pretended::kOps);
    limit_setting::apply({LimitKind::kPercent, 0, 80}, LimitSource::kEnvironment);
    limit_setting::container().find(directory_.path().c_str());
    fill(kContainer / 2);
    resize(kContainer);
    limit_setting::refresh();
    group_watch::kForkPart.reset();
    // So that what the tests sleep has passed on the clock, too.
    now_ns_ = memlimit::os::monotonic_ns() - 400 * kSecond;
  }
  ~Container() {
    limit_setting::apply({}, LimitSource::kEnvironment);
    paced::set_group(nullptr);
    group_watch::kTask.run({now_ns_, memlimit::service::Turn::Ready::kNo});
  }
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  void resize(int64_t bytes) {
    directory_.write("/sys/fs/cgroup/memory.max", std::to_string(bytes) + "\n");
  }
  void fill(int64_t bytes) {
    directory_.write("/sys/fs/cgroup/memory.current", std::to_string(bytes) + "\n");
  }

  /** Turns of the service thread for so long, each when the task wants it; how many there were. */
  int sleep(int64_t seconds) {
    const int64_t until_ns = now_ns_ + seconds * kSecond;
    int turns = 0;
    for (int64_t due_ns = group_watch::kTask.due_ns(); due_ns < until_ns;
         due_ns = group_watch::kTask.due_ns()) {
      now_ns_ = std::max(now_ns_, due_ns);
      turn();
      ++turns;
    }
    now_ns_ = until_ns;
    return turns;
  }
  void turn() { group_watch::kTask.run({now_ns_, memlimit::service::Turn::Ready::kNo}); }

  int64_t seconds_until_look() const { return (group_watch::kTask.due_ns() - now_ns_) / kSecond; }

 private:
  memlimit::test::TreeDir directory_;
  int64_t now_ns_ = 0;
};

}  // namespace

TEST_CASE(
    "group watch: a process that sleeps is woken once in two minutes, below the limit and above",
    "[group_watch]") {
  Container container;
  container.fill(GENERATE(kContainer / 10, kContainer / 10 * 9));
  container.turn();
  CHECK(container.sleep(60) <= 6);
  container.sleep(180);
  CHECK(container.sleep(600) <= 5);
}

TEST_CASE("group watch: what others fill is seen, and then looked at often", "[group_watch]") {
  Container container;
  container.turn();
  container.sleep(300);
  container.fill(kContainer / 10 * 9);
  CHECK(container.sleep(121) >= 3);
  CHECK(pressure::level() == memlimit::Level::kOver);
  CHECK(container.sleep(600) <= 15);
}

TEST_CASE("group watch: a container that is resized is seen within two minutes", "[group_watch]") {
  Container container;
  container.turn();
  container.sleep(300);
  container.resize(kContainer / 2);
  container.sleep(121);
  CHECK(pressure::limit_bytes() == share(kContainer / 2));
  CHECK(container.seconds_until_look() < 120);
}

TEST_CASE("group watch: whoever wakes the thread gets figures that are not old", "[group_watch]") {
  Container container;
  container.turn();
  container.sleep(300);
  container.turn();  // in the middle of a long interval
  container.resize(kContainer / 2);
  container.sleep(4);
  container.turn();
  CHECK(pressure::limit_bytes() == share(kContainer));
  container.sleep(1);
  container.turn();
  CHECK(pressure::limit_bytes() == share(kContainer / 2));
}

TEST_CASE("group watch: a program that works again has its container looked at, once",
          "[group_watch]") {
  Container container;
  container.turn();
  CHECK_FALSE(program_work::note());  // the thread is awake often enough
  container.sleep(300);
  CHECK(program_work::note());
  CHECK_FALSE(program_work::note());
}

TEST_CASE("group watch: nothing is looked at once the limit is not the container's",
          "[group_watch]") {
  Container container;
  container.turn();
  REQUIRE(group_watch::kTask.due_ns() != INT64_MAX);
  limit_setting::apply({LimitKind::kBytes, 2048 * kMiB, 0}, LimitSource::kSocket);
  container.turn();
  CHECK(group_watch::kTask.due_ns() == INT64_MAX);
}
