/* A program closes every descriptor while the service thread sleeps on its own: nobody can wake that thread any more, but
 * it looks by itself before long, and hears as before from then on. */
#include <sys/syscall.h>
#include <time.h>

#include "blocks.h"
#include "threads.h"

enum { kMoreTurns = 10, kDeadlineSeconds = 60 };
static _Atomic int calls;

static int64_t count_call(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  ++calls;
  return 0;
}

static time_t seconds_now(void) {
  struct timespec now;
  CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &now), 0);
  return now.tv_sec;
}

int main(void) {
  need_library();
  const struct memlimit_hook hook = {sizeof hook, "counts", MEMLIMIT_ASYNC, count_call, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  memlimit_reclaim(0);
  CHECK(calls >= 1);
  wait_for_threads_to_sleep();
  if (syscall(SYS_close_range, 3U, ~0U, 0U) != 0) {
    for (int fd = 3; fd < 4096; ++fd) close(fd);
  }
  const int heard = calls;
  const time_t deadline = seconds_now() + kDeadlineSeconds;
  while (calls == heard && seconds_now() < deadline) memlimit_reclaim(0);
  CHECK(calls > heard);
  for (int turn = 0; turn < kMoreTurns; ++turn) {
    wait_for_threads_to_sleep();
    const int before = calls;
    memlimit_reclaim(0);
    CHECK(calls > before);
  }
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
