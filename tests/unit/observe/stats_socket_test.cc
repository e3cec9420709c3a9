/* The statistics socket against real clients: crowds, those who are let in and those who wait; its start, its end,
 * and the child of fork.
 */
#include "observe/stats_socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/socket_server.h"

using memlimit::SocketContent;
using memlimit::SocketPlace;
using memlimit::StatsSocket;
using memlimit::test::body_of;
using memlimit::test::descriptor_count;
using memlimit::test::in_child;
using memlimit::test::kMs;
using memlimit::test::kStat;
using memlimit::test::raise_descriptor_limit;
using memlimit::test::Server;
using memlimit::test::UnixClient;

TEST_CASE("stats_socket: reading a byte now and then does not hold a slot for ever",
          "[stats_socket]") {
  Server server(4096);
  server.bulk = std::string(100'000, 'b');
  UnixClient slow = server.client("stat\n");
  server.run();
  int seconds = 0;
  while (server.socket.next_deadline_ns() != StatsSocket::kNever && seconds < 60) {
    slow.received(5000);
    server.pass(1000 * kMs);
    ++seconds;
  }
  CHECK(seconds <= StatsSocket::kTotalNs / (1000 * kMs));
}

TEST_CASE("stats_socket: clients that vanish leave nothing behind", "[stats_socket]") {
  Server server(4096);
  server.ask("stat\n");
  const int before = descriptor_count();
  server.bulk = std::string(100'000, 'b');
  {
    UnixClient before_asking = server.client();
    UnixClient after_asking = server.client("stat\n");
    UnixClient in_between = server.client("sta");
    UnixClient in_the_answer = server.client("stat\n");
    UnixClient stream = server.client("events\n");
    after_asking.leave();
    server.run();
    in_the_answer.received(1000);
  }
  server.run();
  CHECK(descriptor_count() == before);
  CHECK_FALSE(server.socket.has_subscribers());
  CHECK(server.socket.next_deadline_ns() == StatsSocket::kNever);
}

TEST_CASE("stats_socket: two hundred clients at once are all answered", "[stats_socket]") {
  Server server;
  std::vector<UnixClient> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(server.client(i % 3 == 0   ? "stat\n"
                                    : i % 3 == 1 ? "GET /stat HTTP/1.1\r\n\r\n"
                                                 : "nonsense\n"));
    REQUIRE(clients.back().connected());
  }
  server.run();
  for (size_t i = 0; i < clients.size(); ++i) {
    CAPTURE(i);
    const std::string& answer = clients[i].received();
    CHECK(clients[i].ended());
    if (i % 3 == 0) CHECK(answer == kStat);
    if (i % 3 == 1) CHECK(body_of(answer) == kStat);
    if (i % 3 == 2) CHECK(answer.starts_with("memlimit: no file \"nonsense\""));
  }
}

TEST_CASE("stats_socket: an honest client gets past a thousand who want to keep it out",
          "[stats_socket][slow]") {
  if (!raise_descriptor_limit()) {
    WARN("skipped: too few descriptors allowed");
    return;
  }
  // Silent ones, and ones that write a byte at each opportunity, so that they always make progress.
  const bool dribble = GENERATE(false, true);
  // All slots for them, or half of the slots taken by subscribers.
  const size_t streaming = GENERATE(size_t{0}, StatsSocket::kMaxEventStreams);
  CAPTURE(dribble, streaming);
  Server server;
  std::vector<UnixClient> crowd;
  for (size_t i = 0; i < 1000; ++i) {
    crowd.push_back(i < streaming ? server.client("events\n") : server.client());
    REQUIRE(crowd.back().connected());
  }
  UnixClient honest = server.client("stat\n");
  const int64_t start = server.now;
  server.run();
  while (!honest.ended() && server.now - start < 60'000 * kMs) {
    const int64_t wait = server.socket.next_deadline_ns() - server.now;
    REQUIRE(wait > 0);
    if (dribble) {
      for (UnixClient& client : crowd) client.send_some("s");
    }
    server.pass(std::min(wait, kMs));
    honest.received();
  }
  CHECK(honest.received() == kStat);
  const auto slots = static_cast<int64_t>(StatsSocket::kMaxClients - streaming);
  CHECK(server.now - start <= 1000 / slots * StatsSocket::kCrowdedNs);
  CHECK(server.now - start < StatsSocket::kProgressNs);
}

TEST_CASE("stats_socket: full slots and nobody waiting cost nothing", "[stats_socket]") {
  Server server;
  std::vector<UnixClient> silent;
  for (size_t i = 0; i < StatsSocket::kMaxClients; ++i) silent.push_back(server.client());
  server.run();
  server.pass(StatsSocket::kCrowdedNs);
  server.pass(StatsSocket::kCrowdedNs);
  for (UnixClient& client : silent) {
    client.received();
    CHECK_FALSE(client.ended());
  }
  silent[5].send_some("stat\n");
  server.run();
  CHECK(silent[5].received() == kStat);
}

TEST_CASE("stats_socket: without descriptors clients wait, and the server does not spin",
          "[stats_socket][fork]") {
  Server server;
  CHECK(in_child([&] {
    UnixClient waiting = server.client("stat\n");
    rlimit limit{64, 64};
    setrlimit(RLIMIT_NOFILE, &limit);
    std::vector<int> hoard;
    for (int fd; (fd = dup(0)) >= 0;) hoard.push_back(fd);
    server.socket.handle(server.now);
    pollfd ready{server.socket.wait_fd(), POLLIN, 0};
    const bool quiet = poll(&ready, 1, 0) == 0;
    const int64_t again = server.socket.next_deadline_ns();
    for (const int fd : hoard) close(fd);
    server.socket.handle(again);
    return quiet && again == server.now + 100 * kMs && waiting.received() == kStat;
  }));
}

TEST_CASE("stats_socket: closing hangs up and removes the file", "[stats_socket]") {
  Server server;
  const std::string path = server.path;
  UnixClient stream = server.client("events\n");
  UnixClient silent = server.client();
  server.run();
  server.socket.close();
  stream.received();
  CHECK(stream.ended());
  silent.received();
  CHECK(silent.ended());
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK_FALSE(server.socket.is_open());
  CHECK(server.socket.wait_fd() == -1);
  CHECK(server.socket.next_deadline_ns() == StatsSocket::kNever);
  server.socket.handle(server.now);
  server.socket.publish_event("x");
  server.socket.close();

  SocketPlace place;
  place.setting = path;
  server.open(place);
  CHECK(server.ask("stat\n") == kStat);
}

TEST_CASE("stats_socket: closing leaves a path that is no longer ours", "[stats_socket]") {
  Server server;
  std::filesystem::remove(server.path);
  std::ofstream(server.path) << "somebody else's";
  server.socket.close();
  CHECK(std::filesystem::exists(server.path));
}

TEST_CASE("stats_socket: a second server on the path is refused", "[stats_socket]") {
  Server server;
  StatsSocket second;
  SocketPlace place;
  place.setting = server.path;
  char error[512];
  CHECK(second.open(place, SocketContent{}, error, sizeof error) == -EADDRINUSE);
  CHECK_FALSE(second.is_open());
  CHECK(server.ask("stat\n") == kStat);
}

TEST_CASE("stats_socket: the child of fork lets go without disturbing the parent",
          "[stats_socket][fork]") {
  Server server;
  UnixClient stream = server.client("events\n");
  UnixClient partial = server.client("sta");
  server.run();
  const std::string child_path = server.dir / "child";
  CHECK(in_child([&] {
    const int before = descriptor_count();
    server.socket.forget_after_fork();
    bool good = descriptor_count() == before - 4;  // listener, epoll, two clients
    good = good && !server.socket.is_open() && server.socket.path()[0] == '\0';
    SocketPlace place;
    place.setting = child_path;
    char error[512];
    good =
        good && server.socket.open(place, SocketContent{&server, Server::render, Server::set_limit},
                                   error, sizeof error) == 0;
    UnixClient own(child_path);
    own.send_some("stat\n");
    server.socket.handle(server.now);
    good = good && own.received() == kStat;
    server.socket.close();
    return good;
  }));
  CHECK(std::filesystem::exists(server.path));
  server.socket.publish_event("round=1");
  CHECK(stream.received() == "state\nround=1\n");
  partial.send_some("t\n");
  server.run();
  CHECK(partial.received() == kStat);
  CHECK(server.ask("stat\n") == kStat);
}

TEST_CASE("stats_socket: a child that knows nothing of us keeps no client waiting",
          "[stats_socket][fork]") {
  Server server;
  UnixClient client = server.client("sta");
  server.run();
  int hold[2];
  REQUIRE(pipe(hold) == 0);
  const pid_t child = fork();
  if (child == 0) {
    close(hold[1]);
    char end;
    _exit(read(hold[0], &end, 1) == 0 ? 0 : 1);
  }
  client.send_some("t\n");
  server.run();
  // The child's copies would keep the connection open if it were only closed here.
  CHECK(client.received() == kStat);
  CHECK(client.ended());
  close(hold[0]);
  close(hold[1]);
  waitpid(child, nullptr, 0);
}

TEST_CASE("stats_socket: descriptors stay out of the program's way and errno as it was",
          "[stats_socket]") {
  const int lowest = dup(0);
  close(lowest);
  Server server;
  UnixClient client = server.client("events\n");
  errno = 4711;
  server.socket.handle(server.now);
  server.socket.publish_event("x");
  CHECK(errno == 4711);
  CHECK(client.fd() == lowest);
  const int next = dup(0);
  CHECK(next == lowest + 1);
  close(next);
}
