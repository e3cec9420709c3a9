/* An async hook closes every descriptor, as daemons do, while the service thread is awake: that thread then has nothing to
 * wait on. It may not spin, and it goes on serving. */
#include <dirent.h>
#include <sched.h>
#include <sys/syscall.h>

#include "blocks.h"

static _Atomic int calls;

static int64_t close_all(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  if (calls++ == 0) CHECK_EQ(syscall(SYS_close_range, 3U, ~0U, 0U), 0);
  return 0;
}

static void wait_for_threads_to_sleep(void) {
  DIR* directory = opendir("/proc/self/task");
  if (directory == NULL) SKIP("no /proc here");
  for (const struct dirent* entry; (entry = readdir(directory)) != NULL;) {
    const int thread_id = atoi(entry->d_name);
    if (thread_id == 0 || thread_id == getpid()) continue;
    for (char state; (state = thread_state(thread_id)) != 'S' && state != 0;) sched_yield();
  }
  closedir(directory);
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
