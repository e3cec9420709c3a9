/* When the service thread is due for events that woke nobody. Time is what the test says; the socket is a real one. */
#include "engine/log_events.h"

#include <cstdint>
#include <string>

#include <catch2/catch.hpp>

#include "engine/service.h"
#include "engine/stats_server.h"
#include "observe/event_ring.h"
#include "settings/config.h"
#include "support/temp_dir.h"
#include "support/unix_client.h"
#include "system/os.h"

namespace log_events = memlimit::log_events;
namespace service = memlimit::service;
namespace stats_server = memlimit::stats_server;
using memlimit::Config;
using memlimit::LogLevel;
using memlimit::test::UnixClient;

namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr int64_t kHeardNs = 5 * kNsPerSecond;

/* Settings must live for ever. */
Config& config_with(LogLevel level) {
  static Config config;
  config.log.level = level;
  log_events::configure(config);
  return config;
}

/* A turn of the event task that ends now; when it is due next, from then on. */
int64_t due_after_turn(int64_t now_ns) {
  log_events::kEventTask.run({now_ns, service::Turn::Ready::kNo});
  const int64_t due_ns = log_events::kEventTask.due_ns();
  return due_ns == INT64_MAX ? INT64_MAX : due_ns - now_ns;
}

/* The statistics socket as the service thread serves it. */
class Served {
 public:
  explicit Served(Config& config) {
    const std::string path = directory_ / "s";
    config.socket.kind = memlimit::SocketKind::kPath;
    path.copy(config.socket.text, sizeof config.socket.text - 1);
    stats_server::configure(config, nullptr);
    stats_server::kTask.begin();
  }
  ~Served() { stats_server::kTask.end(); }
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;

  UnixClient client() const { return UnixClient(directory_ / "s"); }

  /* What is sent has arrived, so a few turns are enough. */
  static void run() {
    for (int turn = 0; turn < 10; ++turn) {
      stats_server::kTask.run({memlimit::os::monotonic_ns(), service::Turn::Ready::kUnknown});
    }
  }

 private:
  memlimit::test::TempDir directory_;
};

}  // namespace

TEST_CASE("log events: a log of every event is written within five seconds", "[log_events]") {
  const int64_t now_ns = 100 * kNsPerSecond;
  for (const LogLevel level : {LogLevel::kInfo, LogLevel::kDebug}) {
    config_with(level);
    CHECK(due_after_turn(now_ns) == kHeardNs);
    // From turn to turn, however late the next one comes.
    CHECK(due_after_turn(now_ns + 60 * kNsPerSecond) == kHeardNs);
  }
}

TEST_CASE("log events: who does not listen is not woken for", "[log_events]") {
  for (const LogLevel level : {LogLevel::kOff, LogLevel::kError, LogLevel::kWarn}) {
    config_with(level);
    CHECK(due_after_turn(100 * kNsPerSecond) == INT64_MAX);
  }
}

TEST_CASE("log events: who reads the stream hears within five seconds, as long as it reads",
          "[log_events]") {
  const Served served(config_with(LogLevel::kWarn));
  UnixClient reader = served.client();
  REQUIRE(reader.connected());
  REQUIRE(reader.send_some("events\n") == 7);
  Served::run();
  REQUIRE(stats_server::has_subscribers());
  // Now: the reader is served at the same clock.
  const int64_t now_ns = memlimit::os::monotonic_ns();
  CHECK(due_after_turn(now_ns) == kHeardNs);

  memlimit::emit(memlimit::EventKind::kHookRemoved, 7);
  due_after_turn(now_ns);
  Served::run();
  CHECK(reader.received().find("hook_removed") != std::string::npos);

  reader.leave();
  Served::run();
  CHECK_FALSE(stats_server::has_subscribers());
  CHECK(due_after_turn(now_ns) == INT64_MAX);
}
