/* What the program opens under numbers that were the socket's. */
#include "observe/socket_door.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/socket_server.h"

using memlimit::SocketPlace;
using memlimit::StatsSocket;
using memlimit::test::kStat;
using memlimit::test::Server;
using memlimit::test::UnixClient;

namespace {

/** Open descriptors that are not in `known`. */
std::vector<int> descriptors_beside(const std::vector<int>& known) {
  std::vector<int> found;
  for (int fd = 0; fd < 4096; ++fd) {
    const bool is_known = std::find(known.begin(), known.end(), fd) != known.end();
    if (!is_known && fcntl(fd, F_GETFD) >= 0) found.push_back(fd);
  }
  return found;
}

/** A connection that the program has under a number which was ours, and its other end. */
class Stranger {
 public:
  explicit Stranger(int number) : number_(number) {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    REQUIRE(dup2(ends[0], number) == number);
    ::close(ends[0]);
    peer_ = ends[1];
    REQUIRE(send(peer_, "ping", 4, 0) == 4);
  }
  ~Stranger() {
    ::close(number_);
    ::close(peer_);
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

  /** Nobody has read from it, written to it, shut it down or closed it. To be asked once. */
  bool is_untouched() const {
    char text[8] = {};
    if (recv(peer_, text, sizeof text, MSG_DONTWAIT) != -1 || errno != EAGAIN) return false;
    if (recv(number_, text, sizeof text, MSG_DONTWAIT) != 4) return false;
    if (std::memcmp(text, "ping", 4) != 0) return false;
    return send(number_, "pong", 4, MSG_NOSIGNAL) == 4 && recv(peer_, text, 8, MSG_DONTWAIT) == 4;
  }

 private:
  int number_, peer_;
};

/** What the service does when poll() returns: true when it found the socket lost, and opened it again. */
bool opened_again(Server& server) {
  pollfd ready{server.socket.wait_fd(), POLLIN, 0};
  if (poll(&ready, 1, 0) != 1 || server.socket.is_intact()) return false;
  server.socket.abandon();
  SocketPlace place;
  place.setting = server.path;
  const std::string path = server.path;
  server.open(place);
  return server.path == path && server.ask("stat\n") == kStat;
}

}  // namespace

TEST_CASE("socket_door: what the program opens under all our numbers is left alone",
          "[socket_door][fork]") {
  const std::vector<int> before = descriptors_beside({});
  Server server;
  UnixClient stream = server.client("events\n");
  UnixClient partial = server.client("sta");
  server.run();
  std::deque<Stranger> strangers;
  for (const int fd : descriptors_beside(before)) {
    if (fd != stream.fd() && fd != partial.fd()) strangers.emplace_back(fd);
  }
  REQUIRE(strangers.size() == 4);  // listener, epoll set, two clients
  SECTION("when it is handled") {
    server.socket.handle(server.now);
    CHECK(opened_again(server));
  }
  SECTION("when clients have had their time") {
    server.socket.handle(server.now + StatsSocket::kTotalNs);
    CHECK(opened_again(server));
  }
  SECTION("when there is an event") {
    server.socket.publish_event("round=1");
    CHECK(opened_again(server));
  }
  SECTION("when the service sees it first") { CHECK(opened_again(server)); }
  SECTION("when it is closed") {
    server.socket.close();
    CHECK(server.socket.wait_fd() == -1);
    CHECK_FALSE(std::filesystem::exists(server.path));
  }
  SECTION("in the child of fork") {
    server.socket.forget_after_fork();
    CHECK(server.socket.wait_fd() == -1);
    CHECK(std::filesystem::exists(server.path));
  }
  for (const Stranger& stranger : strangers) CHECK(stranger.is_untouched());
}

TEST_CASE("socket_door: the program's own listener under our number keeps its clients",
          "[socket_door]") {
  Server server;
  const int number = server.socket.wait_fd();
  Server program;
  REQUIRE(dup2(program.socket.wait_fd(), number) == number);
  UnixClient client = program.client("stat\n");
  server.socket.handle(server.now);
  program.socket.handle(program.now);
  CHECK(client.received() == kStat);
  CHECK(program.socket.requests() == 1);
  CHECK(opened_again(server));
  close(number);
}

TEST_CASE("socket_door: the program's own epoll set under our number keeps its events",
          "[socket_door]") {
  Server server;
  UnixClient client = server.client("sta");
  server.run();
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const int program_set = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN | EPOLLET, {.u64 = 4711}};
  REQUIRE(epoll_ctl(program_set, EPOLL_CTL_ADD, ends[0], &event) == 0);
  REQUIRE(write(ends[1], "x", 1) == 1);
  const int number = server.socket.wait_fd();
  REQUIRE(dup2(program_set, number) == number);
  server.socket.handle(server.now);
  CHECK(opened_again(server));
  CHECK(fcntl(number, F_GETFD) >= 0);
  epoll_event seen[2];
  CHECK(epoll_wait(program_set, seen, 2, 0) == 1);
  const uint64_t told = seen[0].data.u64;  // a packed structure: no reference to a part of it
  CHECK(told == 4711);
  for (const int fd : {number, program_set, ends[0], ends[1]}) close(fd);
}

TEST_CASE("socket_door: what the program opens under one client's number is left alone",
          "[socket_door][fork]") {
  Server server;
  server.ask("stat\n");
  UnixClient other = server.client("events\n");
  server.run();
  const std::vector<int> before = descriptors_beside({});
  const auto number_of = [&](const UnixClient& client) {
    for (const int fd : descriptors_beside(before)) {
      if (fd != client.fd()) return fd;
    }
    return -1;
  };
  SECTION("a subscriber's, when there is an event") {
    UnixClient stream = server.client("events\n");
    server.run();
    const Stranger stranger(number_of(stream));
    server.socket.publish_event("round=1");
    CHECK(other.received() == "state\nround=1\n");
    server.run();
    CHECK(stranger.is_untouched());
    stream.received();
    CHECK(stream.ended());
  }
  SECTION("one that has not asked, when its time is up") {
    UnixClient silent = server.client("sta");
    server.run();
    const Stranger stranger(number_of(silent));
    server.pass(StatsSocket::kProgressNs);
    CHECK(stranger.is_untouched());
  }
  SECTION("any, when it is closed") {
    UnixClient silent = server.client("sta");
    server.run();
    const Stranger stranger(number_of(silent));
    server.socket.close();
    CHECK(stranger.is_untouched());
    other.received();
    CHECK(other.ended());
    return;
  }
  SECTION("one whose connection a child holds on to, which does not keep the server awake") {
    UnixClient stream = server.client("events\n");
    server.run();
    const int number = number_of(stream);
    int hold[2];
    REQUIRE(pipe(hold) == 0);
    const pid_t child = fork();
    if (child == 0) {
      close(hold[1]);
      char end;
      _exit(read(hold[0], &end, 1) == 0 ? 0 : 1);
    }
    const Stranger stranger(number);
    server.socket.publish_event("round=1");
    stream.send_some("x");
    server.socket.handle(server.now);
    CHECK(opened_again(server));
    CHECK(stranger.is_untouched());
    close(hold[0]);
    close(hold[1]);
    waitpid(child, nullptr, 0);
    return;
  }
  CHECK(other.received().starts_with("state\n"));
  CHECK_FALSE(other.ended());
  CHECK(server.ask("stat\n") == kStat);
}
