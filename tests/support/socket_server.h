/* A statistics socket with texts of the test's choice and a clock that the test turns, so that nothing waits. */
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "observe/stats_socket.h"
#include "support/socket_place.h"
#include "support/temp_dir.h"
#include "support/unix_client.h"

namespace memlimit::test {

inline constexpr int64_t kMs = 1'000'000;

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

inline const std::string kStatus = "file 0\n";
inline const std::string kStat = "file 1\n";

inline int descriptor_count() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

inline std::string body_of(const std::string& answer) {
  const size_t blank = answer.find("\r\n\r\n");
  return blank == std::string::npos ? "no head" : answer.substr(blank + 4);
}

/** Room for a thousand clients and their servers' ends in one process; false where that is refused. */
inline bool raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
  return limit.rlim_cur >= 2048 && setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

}  // namespace memlimit::test
