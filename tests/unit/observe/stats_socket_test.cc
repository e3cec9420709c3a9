/* The statistics socket against real clients: prompt ones, slow ones, hostile ones, and crowds. Time is an
 * argument of handle(), so nothing here waits.
 */
#include "observe/stats_socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "observe/stats_text.h"
#include "support/temp_dir.h"
#include "support/unix_client.h"

using memlimit::kMaxTextBytes;
using memlimit::Peer;
using memlimit::SocketContent;
using memlimit::SocketPlace;
using memlimit::StatsFile;
using memlimit::StatsSocket;
using memlimit::test::TempDir;
using memlimit::test::UnixClient;

namespace {

constexpr int64_t kMs = 1'000'000;
constexpr uid_t kNobody = 65534;

/** A server with texts of the test's choice and a clock that the test turns. */
struct Server {
  explicit Server(int send_buffer_bytes = 0, unsigned mode = 0600) : path(dir / "s") {
    SocketPlace place;
    place.setting = path;
    place.mode = mode;
    place.send_buffer_bytes = send_buffer_bytes;
    open(place);
  }
  explicit Server(const SocketPlace& place) { open(place); }
  ~Server() { socket.close(); }

  void open(const SocketPlace& place) {
    char error[512];
    const SocketContent content{this, render, set_limit, note_refusal};
    const int result = socket.open(place, content, error, sizeof error);
    INFO(error);
    REQUIRE(result == 0);
    path = socket.path();
    chmod(dir.path().c_str(), 0755);  // for the tests with a second user
  }

  /** Lets the server do all it can at this time. It may not want more turns than it can use. */
  void run() {
    for (int turn = 0; turn < 10000; ++turn) {
      pollfd ready{socket.wait_fd(), POLLIN, 0};
      if (poll(&ready, 1, 0) == 0 && socket.next_deadline_ns() > now) return;
      socket.handle(now);
    }
    FAIL("the server spins");
  }
  void pass(int64_t ns) {
    now += ns;
    run();
  }

  UnixClient client() { return UnixClient(path); }
  UnixClient client(std::string_view request) {
    UnixClient made(path);
    made.send_some(request);
    return made;
  }
  std::string ask(std::string_view request) {
    UnixClient made = client(request);
    run();
    std::string answer = made.received();
    CHECK(made.ended());
    CHECK(made.error() == 0);
    return answer;
  }

  static size_t render(void* context, StatsFile file, char* buffer, size_t cap) {
    auto* self = static_cast<Server*>(context);
    ++self->renders;
    std::string text;
    if (file == StatsFile::kEvents) {
      text = "state\n";
    } else if (file == StatsFile::kLimit) {
      text = self->limit + "\n";
    } else {
      text = "file " + std::to_string(static_cast<int>(file)) + "\n" + self->bulk;
    }
    const size_t length = std::min(text.size(), cap);
    std::memcpy(buffer, text.data(), length);
    return length;
  }
  static bool set_limit(void* context, std::string_view text, const Peer& peer, char* error,
                        size_t cap) {
    auto* self = static_cast<Server*>(context);
    self->setter = peer;
    if (text.ends_with("MiB")) {
      self->limit = text;
      return true;
    }
    std::strncpy(error, "that is no size", cap);
    return false;
  }

  static void note_refusal(void* context, const Peer& peer) {
    static_cast<Server*>(context)->refused_uids.push_back(peer.uid);
  }

  TempDir dir;
  std::string path;
  StatsSocket socket;
  int64_t now = 1'000'000'000'000;
  std::string bulk;
  std::string limit = "off";
  Peer setter;
  std::vector<uint32_t> refused_uids;
  int renders = 0;
};

const std::string kStatus = "file 0\n";
const std::string kStat = "file 1\n";

int descriptor_count() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

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

/** Runs in a child; the test holds when it returns true. */
bool in_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool skip_unless_root() {
  if (geteuid() == 0) return false;
  WARN("skipped: needs root, to become another user");
  return true;
}

std::string body_of(const std::string& answer) {
  const size_t blank = answer.find("\r\n\r\n");
  return blank == std::string::npos ? "no head" : answer.substr(blank + 4);
}

/** Room for a thousand clients and their servers' ends in one process; false where that is refused. */
bool raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
  return limit.rlim_cur >= 2048 && setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

}  // namespace

TEST_CASE("stats_socket: one line in, one text out, the end", "[stats_socket]") {
  Server server;
  CHECK(server.ask("stat\n") == kStat);
  CHECK(server.ask("\n") == kStatus);
  CHECK(server.ask("status\r\n") == kStatus);
  CHECK(server.ask("foo\n") ==
        "memlimit: no file \"foo\"; try: status stat hooks limit events metrics openmetrics config "
        "ls\n");
  CHECK(server.socket.requests() == 3);
  CHECK(server.socket.refused() == 1);
  CHECK(server.socket.next_deadline_ns() == StatsSocket::kNever);
}

TEST_CASE("stats_socket: a client that only shuts its writing side gets status", "[stats_socket]") {
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

TEST_CASE("stats_socket: limit= changes the limit and answers with it", "[stats_socket]") {
  Server server;
  CHECK(server.ask("limit=300MiB\n") == "300MiB\n");
  CHECK(server.limit == "300MiB");
  CHECK(server.setter.pid == getpid());
  CHECK(server.setter.uid == geteuid());
  CHECK(server.ask("limit=12Q\n") == "memlimit: limit=\"12Q\" that is no size\n");
  CHECK(server.ask("limit\n") == "300MiB\n");
}

TEST_CASE("stats_socket: HTTP answers have a head that fits their body", "[stats_socket][http]") {
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

TEST_CASE("stats_socket: a silent client is told so after two seconds", "[stats_socket]") {
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

TEST_CASE("stats_socket: a byte a second is not enough, and holds up nobody", "[stats_socket]") {
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

TEST_CASE("stats_socket: a request that dribbles in is still a request", "[stats_socket]") {
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

TEST_CASE("stats_socket: who never reads is dropped, who reads slowly gets everything",
          "[stats_socket]") {
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

TEST_CASE("stats_socket: a line of a MiB is refused, and its sender gets to read why",
          "[stats_socket]") {
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

TEST_CASE("stats_socket: who goes on writing for ever is cut off", "[stats_socket]") {
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

TEST_CASE("stats_socket: events reach every subscriber until it leaves", "[stats_socket][events]") {
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
    "stats_socket: a subscriber that does not read loses lines, is told how many, holds up nobody",
    "[stats_socket][events]") {
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

TEST_CASE("stats_socket: subscribers never take all slots", "[stats_socket][events]") {
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

TEST_CASE("stats_socket: subscribers who never read make room for one who does",
          "[stats_socket][events]") {
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

TEST_CASE("stats_socket: what the program opens under all our numbers is left alone",
          "[stats_socket][fork]") {
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

TEST_CASE("stats_socket: the program's own listener under our number keeps its clients",
          "[stats_socket]") {
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

TEST_CASE("stats_socket: the program's own epoll set under our number keeps its events",
          "[stats_socket]") {
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

TEST_CASE("stats_socket: what the program opens under one client's number is left alone",
          "[stats_socket][fork]") {
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

TEST_CASE("stats_socket: another user is kept out by the file's mode", "[stats_socket][fork]") {
  if (skip_unless_root()) return;
  Server server;
  CHECK(in_child([&] {
    if (setresuid(kNobody, kNobody, kNobody) != 0) return false;
    return server.client().connect_error() == EACCES;
  }));
}

TEST_CASE("stats_socket: another user at an abstract name is refused by its credentials",
          "[stats_socket][fork]") {
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

TEST_CASE("stats_socket: where the mode lets others in, they read but never set",
          "[stats_socket][fork]") {
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
      char turn = '.';
      if (write(asked[1], &turn, 1) != 1 || read(result[0], &turn, 1) != 1) _exit(3);
      if (reader.received() != kStat) _exit(4);
      _exit(setter.received() ==
                    "memlimit: not permitted: only uid 0 and root may change the limit; "
                    "you are uid 65534\n"
                ? 0
                : 5);
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

TEST_CASE("stats_socket: a process that is not root lets root and itself in, and no third",
          "[stats_socket][fork]") {
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

TEST_CASE("stats_socket: whom its user namespace does not know is not the program's user",
          "[stats_socket][fork]") {
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
