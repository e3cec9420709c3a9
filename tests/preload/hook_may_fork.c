/* A hook forks and waits for the child, which allocates and leaves; the round ends as usual and later rounds run. Every
 * other child returns from the hook instead: it has no thread but the library's own, which ends, and the process with
 * it. The first two hooks last so long that another thread serves in that one's place, which the child has not. */
#include <sys/wait.h>

#include "blocks.h"

static _Atomic int children;

static int64_t fork_child(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  if (children < 2) usleep(250000);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    struct chain chain = {0};
    chain_grow_by(&chain, 10 * kMiB, 10 * kKiB);
    chain_drop(&chain);
    if (children % 2 == 1) return 0;
    _exit(0);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  ++children;
  return 0;
}

int main(void) {
  need_library();
  const struct memlimit_hook hook = {sizeof hook, "forks", MEMLIMIT_ASYNC, fork_child, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  for (int i = 0; i < 10; ++i) {
    struct chain chain = {0};
    chain_grow_by(&chain, 10 * kMiB, 10 * kKiB);
    memlimit_reclaim(0);
    chain_drop(&chain);
  }
  CHECK(children >= 10);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
