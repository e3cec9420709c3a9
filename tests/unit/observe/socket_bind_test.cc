/* One path: what is in the way, and what may be removed. */
#include "observe/socket_bind.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/socket_place.h"

namespace fs = std::filesystem;
using memlimit::BoundSocket;
using memlimit::SocketPlace;
using memlimit::unlink_stats_socket;
using memlimit::test::Bound;
using memlimit::test::connects;
using memlimit::test::dead_socket_at;
using memlimit::test::exists;
using memlimit::test::kNobody;
using memlimit::test::listener_at;
using memlimit::test::mode_of;
using memlimit::test::named;
using memlimit::test::skip_unless_root;
using memlimit::test::TempDir;
using memlimit::test::UnixClient;

TEST_CASE("socket_bind: the file has its final mode whatever the umask", "[socket_bind]") {
  TempDir dir;
  for (const mode_t mask : {mode_t{0}, mode_t{022}, mode_t{0777}}) {
    const mode_t before = umask(mask);
    const std::string path = dir / std::string("m").append(std::to_string(mask));
    Bound bound(named(path));
    const std::string open_path = dir / std::string("o").append(std::to_string(mask));
    SocketPlace open = named(open_path);
    open.mode = 0644;
    Bound readable(open);
    umask(before);
    REQUIRE(bound.result == 0);
    CHECK(mode_of(path) == 0600);
    REQUIRE(readable.result == 0);
    CHECK(mode_of(open_path) == 0666);  // who may read must be able to connect
  }
}

TEST_CASE("socket_bind: only a dead socket of ours is replaced", "[socket_bind]") {
  TempDir dir;
  const std::string path = dir / "s";
  SECTION("a dead socket") {
    dead_socket_at(path);
    Bound bound(named(path));
    CHECK(bound.result == 0);
    CHECK(connects(path));
  }
  SECTION("a live one") {
    const int live = listener_at(path);
    Bound bound(named(path));
    CHECK(bound.result == -EADDRINUSE);
    CHECK(bound.error.find("is in use by process " + std::to_string(getpid()) + "; put %p") !=
          std::string::npos);
    CHECK(connects(path));
    close(live);
  }
  SECTION("a live one of another container, by a name that has the pid") {
    const int live = listener_at(dir / ("s-" + std::to_string(getpid())));
    Bound by_pid(named(dir / "s-%p"));
    CHECK(by_pid.result == -EADDRINUSE);
    CHECK_THAT(by_pid.error,
               Catch::Matchers::EndsWith(
                   "; put %h, the host name, in it: the pid is the same in both containers"));
    close(live);
    utsname host{};
    REQUIRE(uname(&host) == 0);
    const int other =
        listener_at(dir / (std::string(host.nodename) + "-" + std::to_string(getpid())));
    Bound by_both(named(dir / "%h-%p"));
    CHECK(by_both.result == -EADDRINUSE);
    CHECK_THAT(by_both.error,
               Catch::Matchers::Contains("; host name and pid are the same in both"));
    close(other);
  }
  SECTION("a live one with a full backlog") {
    const int live = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    REQUIRE(bind(live, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(live, 0) == 0);
    UnixClient waiting(path);
    UnixClient refused(path);
    REQUIRE(refused.connect_error() == EAGAIN);
    CHECK(Bound(named(path)).result == -EADDRINUSE);
    CHECK(exists(path));
    close(live);
  }
  SECTION("a regular file") {
    std::ofstream(path) << "precious";
    Bound bound(named(path));
    CHECK(bound.result == -EADDRINUSE);
    CHECK(bound.error.find("is not a dead socket of this user; it is left alone") !=
          std::string::npos);
    std::string content;
    std::ifstream(path) >> content;
    CHECK(content == "precious");
  }
  SECTION("a link to nowhere") {
    fs::create_symlink(dir / "elsewhere", path);
    CHECK(Bound(named(path)).result == -EADDRINUSE);
    CHECK(fs::is_symlink(path));
    CHECK_FALSE(exists(dir / "elsewhere"));
  }
  SECTION("a link to a dead socket") {
    dead_socket_at(dir / "elsewhere");
    fs::create_symlink(dir / "elsewhere", path);
    CHECK(Bound(named(path)).result == -EADDRINUSE);
    CHECK(exists(dir / "elsewhere"));
  }
  SECTION("a dead socket of somebody else") {
    if (skip_unless_root()) return;
    dead_socket_at(path);
    REQUIRE(chown(path.c_str(), kNobody, kNobody) == 0);
    CHECK(Bound(named(path)).result == -EADDRINUSE);
    CHECK(exists(path));
  }
}

TEST_CASE("socket_bind: of many processes that want one path, one gets it", "[socket_bind][fork]") {
  TempDir dir;
  for (int round = 0; round < 5; ++round) {
    const std::string path = dir / std::string("s").append(std::to_string(round));
    if (round % 2 == 0) dead_socket_at(path);
    int ready[2], go[2];
    REQUIRE(pipe(ready) == 0);
    REQUIRE(pipe(go) == 0);
    constexpr int kChildren = 8;
    std::vector<pid_t> children;
    for (int i = 0; i < kChildren; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        close(go[1]);
        Bound bound(named(path));
        // Of the same family, and as large as this process: nobody takes it from the first.
        const char outcome = bound.result == 0 ? 'w' : bound.result == -EALREADY ? 'l' : '?';
        if (write(ready[1], &outcome, 1) != 1) _exit(1);
        char end;
        _exit(read(go[0], &end, 1) == 0 ? 0 : 1);  // hold the socket until all have tried
      }
      children.push_back(child);
    }
    std::string outcomes;
    for (char outcome; outcomes.size() < kChildren && read(ready[0], &outcome, 1) == 1;) {
      outcomes += outcome;
    }
    CHECK(std::count(outcomes.begin(), outcomes.end(), 'w') == 1);
    CHECK(std::count(outcomes.begin(), outcomes.end(), 'l') == kChildren - 1);
    CHECK(connects(path));
    for (const int fd : {ready[0], ready[1], go[0], go[1]}) close(fd);
    for (const pid_t child : children) waitpid(child, nullptr, 0);
  }
}

TEST_CASE("socket_bind: only the very socket that was bound is removed", "[socket_bind]") {
  TempDir dir;
  const std::string path = dir / "s";
  Bound bound(named(path));
  REQUIRE(bound.result == 0);
  SECTION("still there") {
    unlink_stats_socket(bound.socket);
    CHECK_FALSE(exists(path));
  }
  SECTION("replaced by a file") {
    fs::remove(path);
    std::ofstream(path) << "x";
    unlink_stats_socket(bound.socket);
    CHECK(exists(path));
  }
  SECTION("replaced by another process's socket") {
    fs::rename(path, dir / "moved");
    const int other = listener_at(path);
    unlink_stats_socket(bound.socket);
    CHECK(exists(path));
    close(other);
  }
  SECTION("replaced by a link to it") {
    fs::rename(path, dir / "moved");
    fs::create_symlink(dir / "moved", path);
    unlink_stats_socket(bound.socket);
    CHECK(exists(path));
    CHECK(exists(dir / "moved"));
  }
  unlink_stats_socket(BoundSocket{});
}
