/* A single-threaded server with an epoll loop, which keeps an answer for each request it has seen: a POLL hook drops old
 * answers on the loop's own thread, without a lock, and usage stays under the limit. An example of memlimit.hpp. */
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cstdint>
#include <deque>
#include <string>
#include <thread>

#include "check.h"
#include "memlimit.hpp"

namespace {

constexpr std::int64_t kLimitBytes = std::int64_t{32} << 20;
constexpr unsigned kRequests = 20000; /* with answers of 16 KiB: ten times the limit */

class Server {
 public:
  explicit Server(int requests_fd)
      : requests_fd_(requests_fd), epoll_fd_(epoll_create1(EPOLL_CLOEXEC)) {
    watch(requests_fd_);
    watch(memlimit::poll_fd());
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { close(epoll_fd_); }

  /** Waits, then does whatever there is to do. */
  void turn() {
    epoll_event events[2];
    int count;
    while ((count = epoll_wait(epoll_fd_, events, 2, -1)) < 0) CHECK_EQ(errno, EINTR);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd == requests_fd_) {
        answer();
      } else {
        memlimit::poll(); /* calls drop() when it is due */
      }
    }
  }

  unsigned answered() const { return answered_; }
  int drops() const { return drops_; }

 private:
  void watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    CHECK_EQ(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event), 0);
  }

  void answer() {
    eventfd_t one;
    CHECK_EQ(eventfd_read(requests_fd_, &one), 0);
    answers_.emplace_back(16 << 10, static_cast<char>('a' + answered_ % 26));
    ++answered_;
  }

  std::int64_t drop(const memlimit::request& request) {
    CHECK(std::this_thread::get_id() == thread_);
    CHECK_EQ(request.limit_bytes, kLimitBytes);
    ++drops_;
    std::int64_t freed = 0;
    while (!answers_.empty() && freed < request.wanted_bytes) {
      freed += static_cast<std::int64_t>(answers_.front().capacity());
      answers_.pop_front();
    }
    return freed;
  }

  const std::thread::id thread_ = std::this_thread::get_id();
  int requests_fd_;
  int epoll_fd_;
  std::deque<std::string> answers_;
  unsigned answered_ = 0;
  int drops_ = 0;
  memlimit::hook hook_{"answers",
                       [this](const memlimit::request& request) { return drop(request); },
                       memlimit::context::poll};
};

}  // namespace

int main() {
  need_library();
  CHECK_EQ(memlimit::limit(), kLimitBytes);
  CHECK(memlimit::poll_fd() >= 0);
  /* Each read takes one request off; all of them have arrived already. */
  const int requests_fd = eventfd(kRequests, EFD_SEMAPHORE | EFD_CLOEXEC);
  Server server(requests_fd);
  while (server.answered() < kRequests) server.turn();
  CHECK(server.drops() >= 10);
  const memlimit_stats stats = memlimit::stats();
  CHECK(stats.heap_peak <=
        kLimitBytes +
            (2 << 20)); /* a round begins at a quantum's end, and a turn later it is run */
  CHECK(stats.heap_alloc >= kLimitBytes / 2);
  CHECK(stats.reclaimed >= std::int64_t{200} << 20);
  return 0;
}
