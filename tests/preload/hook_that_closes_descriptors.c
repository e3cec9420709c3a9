/* An async hook closes every descriptor, as daemons do, while the service thread is awake: that thread then has nothing to
 * wait on. It may not spin, and it goes on serving. */
#include <sys/syscall.h>

#include "blocks.h"
#include "threads.h"

static _Atomic int calls;

static int64_t close_all(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  if (calls++ == 0) CHECK_EQ(syscall(SYS_close_range, 3U, ~0U, 0U), 0);
  return 0;
}

int main(void) {
  need_library();
  const struct memlimit_hook hook = {sizeof hook, "closes", MEMLIMIT_ASYNC, close_all, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  for (int turn = 1; turn <= 20; ++turn) {
    memlimit_reclaim(0);
    CHECK_EQ(calls, turn);
    wait_for_threads_to_sleep();
  }
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
