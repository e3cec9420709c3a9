/* Subscribers of events: those who read, those who do not, and too many. */
#include "observe/socket_streams.h"

#include <cstring>
#include <string>
#include <vector>

#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/socket_server.h"

using memlimit::StatsSocket;
using memlimit::test::body_of;
using memlimit::test::kMs;
using memlimit::test::kStat;
using memlimit::test::Server;
using memlimit::test::UnixClient;

TEST_CASE("socket_streams: events reach every subscriber until it leaves",
          "[socket_streams][events]") {
  Server server;
  server.socket.publish_event("nobody hears this");
  UnixClient first = server.client("events\n");
  UnixClient second = server.client("events");
  second.end_input();  // as `echo events | socat -` does
  UnixClient web = server.client("GET /events HTTP/1.1\r\n\r\n");
  server.run();
  CHECK(server.socket.has_subscribers());
  server.socket.publish_event("round=1");
  server.pass(3600 * 1000 * kMs);
  server.socket.publish_event("round=2\n");
  server.run();
  CHECK(first.received() == "state\nround=1\nround=2\n");
  CHECK(second.received() == "state\nround=1\nround=2\n");
  CHECK(body_of(web.received()) == "state\nround=1\nround=2\n");
  CHECK(web.received().find("Content-Length") == std::string::npos);
  CHECK_FALSE(first.ended());
  first.send_some("what a subscriber says is of no interest\n");
  first.leave();
  second.leave();
  server.run();
  server.socket.publish_event(std::string(5000, 'x'));
  CHECK(web.received().ends_with("\n" + std::string(StatsSocket::kMaxEventBytes, 'x') + "\n"));
  web.leave();
  server.run();
  CHECK_FALSE(server.socket.has_subscribers());
}

TEST_CASE(
    "socket_streams: a subscriber that does not read loses lines, is told how many, holds up "
    "nobody",
    "[socket_streams][events]") {
  Server server(4096);
  UnixClient stuck = server.client("events\n");
  UnixClient prompt = server.client("events\n");
  server.run();
  constexpr int kEvents = 5000;
  for (int i = 0; i < kEvents; ++i) {
    server.socket.publish_event("event number=" + std::to_string(i));
    prompt.received();
  }
  server.run();
  int seen = 0, dropped = 0, next = 0;
  const auto count = [&](const std::string& text) {
    seen = dropped = next = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      REQUIRE(end != std::string::npos);
      const std::string line = text.substr(at, end - at);
      at = end + 1;
      if (line == "state") continue;
      if (line.starts_with("dropped=")) {
        dropped += std::stoi(line.substr(8));
        next += std::stoi(line.substr(8));
        continue;
      }
      CHECK(line == "event number=" + std::to_string(next));
      ++next;
      ++seen;
    }
  };
  count(prompt.received());
  CHECK(seen == kEvents);
  // Once it reads again, it gets what was kept, the number of what was not, and what comes next.
  for (int turn = 0; turn < 100; ++turn) {
    stuck.received();
    server.run();
  }
  server.socket.publish_event("event number=" + std::to_string(kEvents));
  server.run();
  count(stuck.received());
  CHECK(dropped > 0);
  CHECK(seen > 100);
  CHECK(seen + dropped == kEvents + 1);
  CHECK_FALSE(stuck.ended());
}

TEST_CASE("socket_streams: subscribers never take all slots", "[socket_streams][events]") {
  Server server;
  std::vector<UnixClient> streams;
  for (size_t i = 0; i < StatsSocket::kMaxEventStreams; ++i) {
    streams.push_back(server.client("events\n"));
  }
  server.run();
  CHECK(server.ask("events\n") == "memlimit: 32 clients read events already; try again later\n");
  CHECK(server.ask("GET /events HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
  CHECK(server.ask("stat\n") == kStat);
  streams[3].leave();
  server.run();
  UnixClient again = server.client("events\n");
  server.run();
  CHECK(again.received() == "state\n");
}

TEST_CASE("socket_streams: subscribers who never read make room for one who does",
          "[socket_streams][events]") {
  Server server(4096);
  std::vector<UnixClient> streams;
  for (size_t i = 0; i < StatsSocket::kMaxEventStreams; ++i) {
    streams.push_back(server.client("events\n"));
  }
  server.run();
  for (UnixClient& stream : streams) stream.received();
  const auto publish = [&] {
    for (int i = 0; i < 2000; ++i) {
      server.socket.publish_event("event number=" + std::to_string(i));
      // The last one keeps up.
      streams.back().received();
      if (i % 100 == 0) server.run();
    }
  };
  server.pass(3600 * 1000 * kMs);
  server.socket.handle(server.now);  // as the service does before it publishes
  publish();
  const std::string busy = "memlimit: 32 clients read events already; try again later\n";
  server.pass(StatsSocket::kProgressNs - 1);
  CHECK(server.ask("events\n") == busy);
  // One of the stalled reads again, and is left alone for it.
  for (int turn = 0; turn < 100; ++turn) {
    streams[7].received();
    server.run();
  }
  server.pass(1);
  for (size_t i = 0; i + 2 < StatsSocket::kMaxEventStreams; ++i) {
    streams.push_back(server.client("events\n"));
    server.run();
    CHECK(streams.back().received() == "state\n");
  }
  CHECK(server.ask("events\n") == busy);
  CHECK_FALSE(streams[7].ended());
  CHECK_FALSE(streams[StatsSocket::kMaxEventStreams - 1].ended());
}
