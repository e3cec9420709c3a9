/* Other users at the socket. */
#include "observe/socket_access.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/socket_server.h"

using memlimit::SocketPlace;
using memlimit::test::in_child;
using memlimit::test::kNobody;
using memlimit::test::kStat;
using memlimit::test::Server;
using memlimit::test::skip_unless_root;
using memlimit::test::TempDir;
using memlimit::test::UnixClient;

TEST_CASE("socket_access: another user is kept out by the file's mode", "[socket_access][fork]") {
  if (skip_unless_root()) return;
  Server server;
  CHECK(in_child([&] {
    if (setresuid(kNobody, kNobody, kNobody) != 0) return false;
    return server.client().connect_error() == EACCES;
  }));
}

TEST_CASE("socket_access: another user at an abstract name is refused by its credentials",
          "[socket_access][fork]") {
  if (skip_unless_root()) return;
  SocketPlace place;
  place.run_dir = place.tmp_dir = "/proc/no/such";
  Server server(place);
  CHECK(in_child([&] {
    if (setresgid(kNobody, kNobody, kNobody) != 0) return false;
    if (setresuid(kNobody, kNobody, kNobody) != 0) return false;
    UnixClient stranger = server.client("limit=1MiB\n");
    // The server's end, in this child, has root's descriptors but not root's identity: judge as root.
    return stranger.connected();
  }));
  // The stranger is gone, but its request waits in the backlog with its credentials.
  server.run();
  CHECK(server.limit == "off");
  CHECK(server.socket.refused() == 1);
  CHECK(server.refused_uids == std::vector<uint32_t>{kNobody});
  CHECK(server.renders == 0);
}

TEST_CASE("socket_access: where the mode lets others in, they read figures but never set",
          "[socket_access][fork]") {
  if (skip_unless_root()) return;
  for (const unsigned mode : {0644U, 0666U}) {
    Server server(0, mode);
    int asked[2], result[2];
    REQUIRE(pipe(asked) == 0);
    REQUIRE(pipe(result) == 0);
    const pid_t child = fork();
    if (child == 0) {
      if (setresuid(kNobody, kNobody, kNobody) != 0) _exit(2);
      UnixClient reader = server.client("stat\n");
      UnixClient setter = server.client("limit=1MiB\n");
      UnixClient starter = server.client("profile=on\n");
      UnixClient profiler = server.client("profile\n");
      char turn = '.';
      if (write(asked[1], &turn, 1) != 1 || read(result[0], &turn, 1) != 1) _exit(3);
      if (reader.received() != kStat) _exit(4);
      if (setter.received() !=
          "memlimit: not permitted: only uid 0 and root may change the limit; "
          "you are uid 65534\n")
        _exit(5);
      if (starter.received() !=
          "memlimit: not permitted: only uid 0 and root may change the profile; "
          "you are uid 65534\n")
        _exit(6);
      _exit(profiler.received() ==
                    "memlimit: not permitted: only uid 0 and root may see addresses of this "
                    "process; you are uid 65534\n"
                ? 0
                : 7);
    }
    char turn;
    REQUIRE(read(asked[0], &turn, 1) == 1);
    server.run();
    REQUIRE(write(result[1], &turn, 1) == 1);
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(server.limit == "off");
    for (const int fd : {asked[0], asked[1], result[0], result[1]}) close(fd);
  }
}

TEST_CASE("socket_access: a process that is not root lets root and itself in, and no third",
          "[socket_access][fork]") {
  if (skip_unless_root()) return;
  TempDir dir;
  chmod(dir.path().c_str(), 0777);
  int ready[2], done[2];
  REQUIRE(pipe(ready) == 0);
  REQUIRE(pipe(done) == 0);
  const std::string path = dir / "s";
  const pid_t child = fork();
  if (child == 0) {
    if (setresuid(kNobody, kNobody, kNobody) != 0) _exit(2);
    SocketPlace place;
    place.setting = path;
    Server server(place);
    char turn = '.';
    if (write(ready[1], &turn, 1) != 1 || read(done[0], &turn, 1) != 1) _exit(3);
    server.run();
    _exit(server.limit == "7MiB" && server.socket.refused() == 0 ? 0 : 4);
  }
  char turn;
  REQUIRE(read(ready[0], &turn, 1) == 1);
  UnixClient root(path);
  root.send_some("limit=7MiB\n");
  REQUIRE(write(done[1], &turn, 1) == 1);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(root.received() == "7MiB\n");
  for (const int fd : {ready[0], ready[1], done[0], done[1]}) close(fd);
}

TEST_CASE("socket_access: whom its user namespace does not know is not the program's user",
          "[socket_access][fork]") {
  if (skip_unless_root()) return;
  constexpr uid_t kUnmapped = 12345;
  TempDir dir;
  chmod(dir.path().c_str(), 0777);
  const std::string path = dir / "s";
  int ready[2], go[2];
  REQUIRE(pipe(ready) == 0);
  REQUIRE(pipe(go) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char turn = '.';
    if (unshare(CLONE_NEWUSER) != 0) _exit(77);
    if (write(ready[1], &turn, 1) != 1 || read(go[0], &turn, 1) != 1) _exit(2);
    if (setresuid(kNobody, kNobody, kNobody) != 0) _exit(3);
    SocketPlace place;
    place.setting = path;
    place.mode = 0666;
    Server server(place);
    if (write(ready[1], &turn, 1) != 1 || read(go[0], &turn, 1) != 1) _exit(4);
    server.run();
    if (server.limit != "off") _exit(5);
    if (write(ready[1], &turn, 1) != 1 || read(go[0], &turn, 1) != 1) _exit(6);
    server.run();
    _exit(server.limit == "7MiB" ? 0 : 7);
  }
  close(ready[1]);
  close(go[0]);
  char turn;
  const auto wait_for_child = [&] { return read(ready[0], &turn, 1) == 1; };
  const auto let_child_go = [&] { return write(go[1], &turn, 1) == 1; };
  if (wait_for_child()) {
    // Both are themselves in there, and nobody else is anybody.
    std::ofstream("/proc/" + std::to_string(child) + "/uid_map") << "0 0 1\n65534 65534 1\n";
    let_child_go();
  }
  if (wait_for_child()) {
    const bool asked = in_child([&] {
      if (setresuid(kUnmapped, kUnmapped, kUnmapped) != 0) return false;
      UnixClient stranger(path);
      return stranger.send_some("limit=1MiB\n") > 0;
    });
    CHECK(asked);
    let_child_go();
  }
  if (wait_for_child()) {
    UnixClient root(path);
    root.send_some("limit=7MiB\n");
    let_child_go();
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(root.received() == "7MiB\n");
  } else {
    int status = 0;
    waitpid(child, &status, 0);
    if (WEXITSTATUS(status) == 77) {
      WARN("skipped: no user namespaces here");
    } else {
      CHECK(WEXITSTATUS(status) == 0);
    }
  }
  close(ready[0]);
  close(go[1]);
}
