/* Requests and answers: of prompt clients, slow ones and hostile ones. */
#include "observe/socket_talk.h"

#include <cerrno>
#include <cstring>
#include <string>

#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/socket_server.h"

using memlimit::StatsSocket;
using memlimit::test::body_of;
using memlimit::test::kMs;
using memlimit::test::kStat;
using memlimit::test::kStatus;
using memlimit::test::Server;
using memlimit::test::UnixClient;

TEST_CASE("socket_talk: one line in, one text out, the end", "[socket_talk]") {
  Server server;
  CHECK(server.ask("stat\n") == kStat);
  CHECK(server.ask("\n") == kStatus);
  CHECK(server.ask("status\r\n") == kStatus);
  CHECK(server.ask("foo\n") ==
        "memlimit: no file \"foo\"; try: status stat hooks heap profile limit events metrics "
        "openmetrics "
        "config "
        "ls\n");
  CHECK(server.socket.requests() == 3);
  CHECK(server.socket.refused() == 1);
  CHECK(server.socket.next_deadline_ns() == StatsSocket::kNever);
}

TEST_CASE("socket_talk: a client that only shuts its writing side gets status", "[socket_talk]") {
  Server server;
  UnixClient silent = server.client();
  silent.end_input();
  UnixClient cut = server.client("sta");
  server.run();
  CHECK(cut.received().empty());
  CHECK_FALSE(cut.ended());
  cut.send_some("t");
  cut.end_input();
  server.run();
  CHECK(silent.received() == kStatus);
  CHECK(silent.ended());
  CHECK(cut.received() == kStat);
  CHECK(cut.ended());
}

TEST_CASE("socket_talk: limit= changes the limit and answers with it", "[socket_talk]") {
  Server server;
  CHECK(server.ask("limit=300MiB\n") == "300MiB\n");
  CHECK(server.limit == "300MiB");
  CHECK(server.setter.pid == getpid());
  CHECK(server.setter.uid == geteuid());
  CHECK(server.ask("limit=12Q\n") == "memlimit: limit=\"12Q\" that is no size\n");
  CHECK(server.ask("limit\n") == "300MiB\n");
}

TEST_CASE("socket_talk: HTTP answers have a head that fits their body", "[socket_talk][http]") {
  Server server;
  server.bulk = std::string(5000, 'b');
  const std::string get = server.ask("GET /stat HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(get.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(get.find("\r\nContent-Length: 5007\r\n") != std::string::npos);
  CHECK(get.find("\r\nConnection: close\r\n") != std::string::npos);
  CHECK(body_of(get) == kStat + server.bulk);

  const std::string head = server.ask("HEAD /stat HTTP/1.1\r\n\r\n");
  CHECK(head == get.substr(0, get.size() - 5007));
  CHECK(server.ask("HEAD /events HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));

  const std::string missing = server.ask("GET /nope HTTP/1.1\r\n\r\n");
  CHECK(missing.starts_with("HTTP/1.1 404 Not Found\r\n"));
  CHECK(body_of(missing).starts_with("memlimit: no file \"nope\"; try: status"));
  CHECK(missing.find("\r\nContent-Length: " + std::to_string(body_of(missing).size()) + "\r\n") !=
        std::string::npos);
  CHECK(body_of(server.ask("HEAD /nope HTTP/1.1\r\n\r\n")).empty());
  CHECK(server.ask("DELETE /stat HTTP/1.1\r\n\r\n").find("\r\nAllow: GET, HEAD\r\n") !=
        std::string::npos);
  CHECK(server.ask("GET /stat HTTP/1.1\r\nX: " + std::string(9000, 'x') + "\r\n\r\n")
            .starts_with("HTTP/1.1 431 "));
  // A body nobody asked for, and a second request behind the first, are read and forgotten.
  CHECK(server.ask("POST /limit HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello")
            .starts_with("HTTP/1.1 405 "));
  CHECK(body_of(server.ask("GET /limit HTTP/1.1\r\n\r\nGET /stat HTTP/1.1\r\n\r\n")) == "off\n");
}

TEST_CASE("socket_talk: a silent client is told so after two seconds", "[socket_talk]") {
  Server server;
  UnixClient silent = server.client();
  UnixClient http = server.client("GET /metrics HTT");
  server.run();
  CHECK(server.socket.next_deadline_ns() == server.now + StatsSocket::kProgressNs);
  server.pass(StatsSocket::kProgressNs - 1);
  silent.received();
  CHECK_FALSE(silent.ended());
  server.pass(1);
  CHECK(silent.received().starts_with("memlimit: no whole request in time"));
  CHECK(silent.ended());
  CHECK(http.received().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
  CHECK(http.ended());
  CHECK(server.socket.refused() == 2);
  CHECK(server.socket.next_deadline_ns() == StatsSocket::kNever);
}

TEST_CASE("socket_talk: a byte a second is not enough, and holds up nobody", "[socket_talk]") {
  Server server;
  UnixClient slow = server.client();
  server.run();
  int seconds = 0;
  for (; !slow.ended() && seconds < 60; ++seconds) {
    slow.send_some("s");
    server.pass(1000 * kMs);
    CHECK(server.ask("stat\n") == kStat);
    slow.received();
  }
  CHECK(seconds == StatsSocket::kTotalNs / (1000 * kMs));
  CHECK(slow.received().starts_with("memlimit: no whole request in time"));
}

TEST_CASE("socket_talk: a request that dribbles in is still a request", "[socket_talk]") {
  Server server;
  UnixClient client = server.client();
  for (const char c : std::string("limit=5MiB")) {
    client.send_some({&c, 1});
    server.pass(100 * kMs);
  }
  CHECK(server.limit == "off");
  client.send_some("\n");
  server.run();
  CHECK(client.received() == "5MiB\n");
}

TEST_CASE("socket_talk: who never reads is dropped, who reads slowly gets everything",
          "[socket_talk]") {
  Server server(4096);
  server.bulk = std::string(50'000, 'b');
  UnixClient never = server.client("stat\n");
  UnixClient slow = server.client("stat\n");
  server.run();
  CHECK(server.socket.next_deadline_ns() == server.now + StatsSocket::kProgressNs);
  for (int turn = 0; turn < 8; ++turn) {
    slow.received(15'000);
    server.pass(1000 * kMs);
  }
  CHECK(slow.received().size() == kStat.size() + server.bulk.size());
  CHECK(slow.ended());
  CHECK(never.received().size() < server.bulk.size());
  CHECK(never.ended());
  CHECK(server.socket.next_deadline_ns() == StatsSocket::kNever);
}

TEST_CASE("socket_talk: a line of a MiB is refused, and its sender gets to read why",
          "[socket_talk]") {
  Server server;
  const std::string line = std::string(1 << 20, 'x') + "\n";
  UnixClient client = server.client();
  size_t sent = 0;
  for (int turn = 0; turn < 10000 && sent < line.size(); ++turn) {
    const ssize_t now_sent = client.send_some(std::string_view(line).substr(sent));
    if (now_sent > 0) sent += static_cast<size_t>(now_sent);
    REQUIRE((now_sent > 0 || now_sent == -EAGAIN));
    server.run();
  }
  CHECK(sent == line.size());
  client.end_input();
  server.run();
  CHECK(client.received() ==
        "memlimit: the request is longer than 4096 bytes; send one line naming a file, as in: "
        "status\n");
  CHECK(client.ended());
  CHECK(client.error() == 0);
}

TEST_CASE("socket_talk: who goes on writing for ever is cut off", "[socket_talk]") {
  Server server;
  UnixClient client = server.client();
  const std::string chunk(65536, 'x');
  int turns = 0;
  for (; turns < 1000; ++turns) {
    if (client.send_some(chunk) == -EPIPE) break;
    server.pass(100 * kMs);
  }
  CHECK(turns <= StatsSocket::kTotalNs / (100 * kMs) + 1);
  CHECK(server.socket.next_deadline_ns() == StatsSocket::kNever);
}
