/* After a fork the hooks registered before it are the child's too: over the limit they run in the child, on a service
 * thread of its own, and what the child's statistics say is the child's. */
#include <semaphore.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "blocks.h"

static sem_t called;
static _Atomic int caller_pid;

static int64_t reclaim(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  caller_pid = getpid();
  sem_post(&called);
  return 0;
}

static void go_over_the_limit(void) {
  struct chain chain = {0};
  chain_grow_by(&chain, 40 * kMiB, 20 * kKiB);
  while (sem_wait(&called) != 0) {
  }
  CHECK_EQ(caller_pid, getpid());
  chain_drop(&chain);
}

int main(void) {
  need_library();
  CHECK_EQ(memlimit_get(), 32 * kMiB);
  CHECK_EQ(sem_init(&called, 0, 0), 0);
  const struct memlimit_hook hook = {sizeof hook, "probe", MEMLIMIT_ASYNC, reclaim, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  go_over_the_limit();
  for (int i = 0; i < 10; ++i) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      while (sem_trywait(&called) == 0) { /* calls that the parent had not waited for */
      }
      CHECK_EQ(memlimit_get(), 32 * kMiB);
      go_over_the_limit();
      CHECK(stats_now().rounds >= 1);
      const pid_t grandchild = fork();
      CHECK(grandchild >= 0);
      if (grandchild == 0) {
        while (sem_trywait(&called) == 0) {
        }
        go_over_the_limit();
        _exit(0);
      }
      int grandchild_status = 0;
      CHECK_EQ(waitpid(grandchild, &grandchild_status, 0), grandchild);
      CHECK_EQ(grandchild_status, 0);
      CHECK_EQ(memlimit_hook_remove(id), 0);
      exit(0);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
