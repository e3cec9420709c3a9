// A program that others watch: times malloc and free when it is told to.
//
// usage: watched bare SOCKET     answers connections there as simply as can be: what a reading costs in itself
//        watched        reads "MILLISECONDS" lines; answers each with name=value words on one line
//
// Each answer is about the time since the line came: calls (pairs of malloc and free), cpu_ns (CPU time of
// this thread, the loop around them included), and quantiles of the wall time of one pair in nanoseconds.
// 32 MiB of blocks of mixed sizes live throughout and each call replaces one of them, so that the slow path is
// taken as in a program at work. Ends with its standard input.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "limit_common.h"

namespace {

constexpr size_t kLive = 40'000;
constexpr size_t kSizes[] = {24, 48, 96, 160, 320, 640, 1280, 4000}; /* 32 MiB in all */
constexpr int kBatch = 256;

/** Both clocks of ticks() and nanoseconds at one moment. */
struct Moment {
  uint64_t ticks = bench::ticks();
  int64_t ns = bench::now_ns();
};

/** Waits, accepts, reads what was asked, answers 3 KiB of zeros, closes; for ever. */
void serve_barely(const char* path) {
  static char text[3072];
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  const int door = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(door, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(door, 64)) {
    std::perror(path);
    std::exit(1);
  }
  for (;;) {
    pollfd knock{door, POLLIN, 0};
    poll(&knock, 1, -1);
    const int client = accept4(door, nullptr, nullptr, SOCK_CLOEXEC);
    char request[64];
    if (recv(client, request, sizeof request, 0) > 0) send(client, text, sizeof text, MSG_NOSIGNAL);
    close(client);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "bare") == 0) {
    std::thread(serve_barely, argv[2]).detach();
  }
  static void* live[kLive];
  bench::Rng random(1);
  for (void*& block : live) block = malloc(kSizes[random.between(0, 7)]);
  puts("ready");
  fflush(stdout);
  char line[64];
  while (fgets(line, sizeof line, stdin) != nullptr) {
    static bench::Histogram wall;
    wall = {};
    const Moment begin;
    const int64_t end_ns = begin.ns + strtoll(line, nullptr, 10) * 1'000'000;
    const int64_t cpu_ns = bench::clock_ns(CLOCK_THREAD_CPUTIME_ID);
    long long calls = 0;
    for (; bench::now_ns() < end_ns; calls += kBatch) {
      for (int i = 0; i < kBatch; ++i) {
        void*& block = live[random.between(0, kLive - 1)];
        const size_t size = kSizes[random.between(0, 7)];
        const uint64_t before = bench::ticks();
        free(block);
        block = malloc(size);
        wall.add(bench::ticks() - before);
        bench::keep(block);
      }
    }
    const int64_t spent_ns = bench::clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
    const Moment end;
    const double ns_per_tick =
        static_cast<double>(end.ns - begin.ns) / static_cast<double>(end.ticks - begin.ticks);
    const auto ns = [&](uint64_t ticks) { return static_cast<double>(ticks) * ns_per_tick; };
    printf("calls=%lld cpu_ns=%lld p50=%.1f p99=%.1f p999=%.1f max=%.0f\n", calls,
           static_cast<long long>(spent_ns), ns(wall.at(0.5)), ns(wall.at(0.99)),
           ns(wall.at(0.999)), ns(wall.largest()));
    fflush(stdout);
  }
}
