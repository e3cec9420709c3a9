/* Who has the path: told apart by how the processes came to be. What a wrapper is, tests/socket_test.py shows. */
#include "observe/socket_kin.h"

#include <csignal>
#include <functional>

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/socket_place.h"

using memlimit::Kin;
using memlimit::kin_of;
using memlimit::test::in_child;
using memlimit::test::Large;

namespace {

/** A process that waits for its end. */
class Waiting {
 public:
  explicit Waiting(bool own_group) : pid_(fork()) {
    if (pid_ == 0) {
      for (;;) pause();
    }
    if (own_group) REQUIRE(setpgid(pid_, pid_) == 0);
  }
  ~Waiting() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  int pid() const { return pid_; }

 private:
  pid_t pid_;
};

}  // namespace

TEST_CASE("socket_kin: who started this process, or was started by it, is no stranger",
          "[socket_kin][fork]") {
  const Large here;
  const int parent = getpid();
  CHECK(in_child([&] { return kin_of(parent) == Kin::kAncestor; }));
  CHECK(in_child([&] { return in_child([&] { return kin_of(parent) == Kin::kAncestor; }); }));
  const Waiting child(false);
  CHECK(kin_of(child.pid()) == Kin::kDescendant);
}

TEST_CASE("socket_kin: of the same process group is a sibling, of another a stranger",
          "[socket_kin][fork]") {
  const Waiting near(false), far(true);
  CHECK(in_child([&] { return kin_of(near.pid()) == Kin::kSibling; }));
  CHECK(in_child([&] { return kin_of(far.pid()) == Kin::kStranger; }));
  CHECK(kin_of(memlimit::test::dead_pid()) == Kin::kStranger);
}
