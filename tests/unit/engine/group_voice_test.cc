/* Which process of a container says what concerns all of them. Another process is another open file here: it is the open file
 * that has the lock. */
#include "engine/group_voice.h"

#include <string>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "engine/configure.h"
#include "engine/paced.h"
#include "support/container.h"
#include "support/pretended_allocator.h"

namespace group_voice = memlimit::group_voice;
namespace paced = memlimit::paced;
using memlimit::Event;
using memlimit::EventKind;

namespace {

constexpr int64_t kMinuteNs = 60'000'000'000;

Event unheld(int64_t minute) { return {EventKind::kLimiterOn, minute * kMinuteNs, {2, 1, 0, 0}}; }
Event room_low(int64_t minute) { return {EventKind::kRoomLow, minute * kMinuteNs, {1, 2}}; }

class Container : public memlimit::test::Container {
 public:
  Container() : memlimit::test::Container(80) {
    memlimit::engine::configure(memlimit::Config{}, memlimit::test::pretended::kOps);
    paced::read(false, 0);
  }
  ~Container() { group_voice::kForkPart.reset(); }

  int open_file(const char* file) const {
    return open(path_of(file).c_str(), O_RDONLY | O_CLOEXEC);
  }
};

/* Whether another process could speak now. */
bool is_free(const Container& container, const char* file) {
  const int fd = container.open_file(file);
  const bool free = flock(fd, LOCK_EX | LOCK_NB) == 0;
  close(fd);
  return free;
}

/* Another process that has said it. */
class Other {
 public:
  Other(const Container& container, const char* file) : fd_(container.open_file(file)) {
    REQUIRE(flock(fd_, LOCK_EX | LOCK_NB) == 0);
  }
  ~Other() { close(fd_); }
  Other(const Other&) = delete;
  Other& operator=(const Other&) = delete;

 private:
  int fd_;
};

}  // namespace

TEST_CASE("group voice: one process says what concerns the container, each thing for itself",
          "[group_voice]") {
  const Container container;
  REQUIRE(paced::counts_group());
  CHECK(group_voice::own_part() == paced::own_bytes());
  {
    const Other other(container, "/memory.stat");
    CHECK_FALSE(group_voice::may_say(unheld(1)));
    CHECK(group_voice::may_say(room_low(1)));
    CHECK(group_voice::may_say({EventKind::kLimiterOn, 1, {2, 1, 5, 9}}));  // its own CPU time
    CHECK(group_voice::may_say({EventKind::kHookOverran, 1, {}}));
  }
  CHECK(group_voice::may_say(unheld(1)));  // the other has ended
  CHECK_FALSE(is_free(container, "/memory.stat"));
  CHECK(group_voice::may_say(unheld(2)));
}

TEST_CASE("group voice: after ten minutes another may speak", "[group_voice]") {
  const Container container;
  REQUIRE(group_voice::may_say(room_low(1)));
  group_voice::rest(10 * kMinuteNs);
  CHECK_FALSE(is_free(container, "/cgroup.procs"));
  group_voice::rest(11 * kMinuteNs);
  CHECK(is_free(container, "/cgroup.procs"));
}

TEST_CASE("group voice: where nothing can be locked, each process speaks", "[group_voice]") {
  const Container container;
  container.remove("/memory.stat");
  CHECK(group_voice::may_say(unheld(1)));
}

TEST_CASE("group voice: a limit of the process's own is its own concern", "[group_voice]") {
  const Container container;
  const Other other(container, "/memory.stat");
  paced::configure(memlimit::AccountMode::kRss);
  CHECK(group_voice::own_part() == -1);
  CHECK(group_voice::may_say(unheld(1)));
  paced::configure(memlimit::AccountMode::kAuto);
}

TEST_CASE("group voice: the child of fork leaves the parent its voice", "[group_voice][fork]") {
  const Container container;
  REQUIRE(group_voice::may_say(unheld(1)));
  const pid_t child = fork();
  if (child == 0) {
    group_voice::kForkPart.reset();
    _exit(group_voice::may_say(unheld(1)) ? 1 : 0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK_FALSE(is_free(container, "/memory.stat"));
}

TEST_CASE("group voice: a program's file under the same number is left alone", "[group_voice]") {
  const Container container;
  const int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
  REQUIRE(group_voice::may_say(unheld(1)));
  // As a program does that closes all descriptors, and opens its own.
  std::string closed;
  for (int fd = before + 1; fd < 4096; ++fd) {
    struct stat mine {
    }, its{};
    const int stat_fd = container.open_file("/memory.stat");
    const bool same = fstat(stat_fd, &mine) == 0 && fd != stat_fd && fstat(fd, &its) == 0 &&
                      mine.st_ino == its.st_ino && mine.st_dev == its.st_dev;
    close(stat_fd);
    if (!same) continue;
    REQUIRE(dup2(before, fd) == fd);
    group_voice::rest(100 * kMinuteNs);
    CHECK(fcntl(fd, F_GETFD) >= 0);
    close(fd);
    closed += "one";
  }
  CHECK(closed == "one");
  close(before);
}
