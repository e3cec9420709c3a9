/* libFuzzer target: a script of what clients do to a live statistics socket, with the clock in its hands.
 *
 * The first byte of each step chooses it: connect, send, shut, read, leave, let time pass, publish an event,
 * change how long answers are. Held: no crash, no leak of descriptors, no spinning, and nobody but a
 * subscriber outlives the total deadline.
 */
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "observe/stats_socket.h"
#include "support/temp_dir.h"
#include "support/unix_client.h"

using memlimit::Peer;
using memlimit::SocketContent;
using memlimit::SocketPlace;
using memlimit::StatsFile;
using memlimit::StatsSocket;
using memlimit::test::TempDir;
using memlimit::test::UnixClient;

namespace {

constexpr size_t kClients = 80;
constexpr int64_t kTickNs = 20'000'000;
constexpr int kFirstHighDescriptor = 1024 - 64;

void hold(bool truth, const char* what) {
  if (truth) return;
  fprintf(stderr, "does not hold: %s\n", what);
  abort();
}

/** The script, byte by byte; zeros behind its end. */
class Script {
 public:
  explicit Script(std::string_view text) : text_(text) {}
  bool ended() const { return text_.empty(); }
  uint8_t byte() {
    if (text_.empty()) return 0;
    const auto first = static_cast<uint8_t>(text_.front());
    text_.remove_prefix(1);
    return first;
  }
  std::string_view bytes(size_t count) {
    const std::string_view taken = text_.substr(0, count);
    text_.remove_prefix(taken.size());
    return taken;
  }

 private:
  std::string_view text_;
};

struct World {
  size_t answer_bytes = 10;
  int64_t now = 1'000'000'000'000;
  StatsSocket socket;
  std::optional<UnixClient> clients[kClients];

  static size_t render(void* context, StatsFile file, char* buffer, size_t cap) {
    const size_t length =
        std::min(cap, file == StatsFile::kEvents ? 10 : static_cast<World*>(context)->answer_bytes);
    std::memset(buffer, 'r', length);
    return length;
  }
  static bool set_limit(void*, std::string_view text, const Peer&, char* error, size_t cap) {
    if (text.size() % 2 == 0) return true;
    snprintf(error, cap, "%.*s", static_cast<int>(text.size()), text.data());
    return false;
  }

  void run() {
    for (int turn = 0; turn < 2000; ++turn) {
      pollfd ready{socket.wait_fd(), POLLIN, 0};
      if (poll(&ready, 1, 0) == 0 && socket.next_deadline_ns() > now) return;
      socket.handle(now);
    }
    hold(false, "the server comes to rest");
  }
};

void play(Script& script, World& world, const std::string& path) {
  while (!script.ended()) {
    const uint8_t step = script.byte();
    std::optional<UnixClient>& client = world.clients[script.byte() % kClients];
    const bool there = client.has_value() && client->connected();
    switch (step % 10) {
      case 0:
        client.reset();
        client.emplace(path);
        break;
      case 1:
        if (there) client->send_some(script.bytes(script.byte()));
        break;
      case 2:
        if (there) client->send_some(std::string(size_t{script.byte()} * 64, 'x'));
        break;
      case 3:
        if (there) client->end_input();
        break;
      case 4:
        if (there) client->received(size_t{script.byte()} * 64);
        break;
      case 5:
        client.reset();
        break;
      case 6:
        world.now += script.byte() * kTickNs;
        world.run();
        break;
      case 7:
        world.socket.publish_event(std::string(size_t{script.byte()} * 8, 'e'));
        break;
      case 8:
        world.answer_bytes = size_t{script.byte()} * 512;
        break;
      default:
        world.socket.handle(world.now);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const TempDir dir;
  const std::string path = dir / "s";
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 1024;
  setrlimit(RLIMIT_NOFILE, &limit);

  World world;
  SocketPlace place;
  place.setting = path;
  place.send_buffer_bytes = 4096;
  char error[512];
  hold(world.socket.open(place, SocketContent{&world, World::render, World::set_limit}, error,
                         sizeof error) == 0,
       error);
  Script script({reinterpret_cast<const char*>(data), size});
  play(script, world, path);

  world.run();
  const int64_t end = world.now + StatsSocket::kTotalNs + StatsSocket::kProgressNs;
  while (world.now < end) {
    world.now += StatsSocket::kCrowdedNs;
    world.run();
  }
  hold(world.socket.next_deadline_ns() == StatsSocket::kNever, "nobody outlives the deadline");
  for (auto& client : world.clients) client.reset();
  world.run();
  hold(!world.socket.has_subscribers(), "who left no longer subscribes");
  world.socket.close();
  for (int fd = kFirstHighDescriptor; fd < kFirstHighDescriptor + 80; ++fd) {
    hold(fcntl(fd, F_GETFD) < 0 && errno == EBADF, "no descriptor is left open");
  }
  hold(access(path.c_str(), F_OK) != 0, "the path is gone");
  return 0;
}
