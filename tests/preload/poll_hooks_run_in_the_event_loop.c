/* memlimit_poll_fd becomes readable when a POLL hook is due, wakes an epoll loop, and memlimit_poll runs the hook on the
 * loop's own thread and clears the descriptor. Nothing runs when nothing is due. */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "blocks.h"

static int calls;
static struct chain cache;

static int64_t shrink_cache(const struct memlimit_request* request, void* argument) {
  (void)argument;
  ++calls;
  CHECK_EQ(syscall(SYS_gettid), getpid());
  CHECK_EQ(request->limit_bytes, 32 * kMiB);
  CHECK(request->wanted_bytes > 0);
  int64_t freed = 0;
  while (freed < request->wanted_bytes && cache.head != NULL) freed += chain_shrink(&cache);
  return freed;
}

static int is_readable(int fd) {
  struct pollfd poll_fd = {fd, POLLIN, 0};
  return poll(&poll_fd, 1, 0) == 1;
}

int main(void) {
  need_library();
  CHECK_EQ(memlimit_get(), 32 * kMiB);
  CHECK_EQ(memlimit_poll(), 0);
  const int fd = memlimit_poll_fd();
  CHECK(fd >= 0);
  CHECK_EQ(memlimit_poll_fd(), fd);
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
  CHECK(!is_readable(fd));
  const struct memlimit_hook hook = {sizeof hook, "loop", MEMLIMIT_POLL, shrink_cache, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);

  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  CHECK_EQ(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
  chain_grow_by(&cache, 4 * kMiB, 16 * kKiB);
  CHECK_EQ(memlimit_poll(), 0);
  for (int turn = 0; turn < 5; ++turn) {
    chain_grow_by(&cache, 34 * (int64_t)kMiB - cache.usable_bytes, 16 * kKiB);
    /* The loop does nothing but wait and poll: it must be woken until usage is back. */
    while (stats_now().heap_alloc > 32 * (int64_t)kMiB) {
      int count;
      while ((count = epoll_wait(epoll_fd, &event, 1, -1)) < 0) CHECK_EQ(errno, EINTR);
      CHECK_EQ(count, 1);
      const int calls_before = calls;
      CHECK_EQ(memlimit_poll(), calls - calls_before);
    }
  }
  CHECK(calls >= 5);
  chain_drop(&cache);
  while (is_readable(fd)) memlimit_poll();
  CHECK_EQ(memlimit_poll(), 0);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
