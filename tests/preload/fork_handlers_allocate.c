/* Fork handlers of the program allocate past the limit, before and after the fork, in parent and child, where the service
 * thread may have to come up anew; libmemlimit's own handlers run around them in whatever order. */
#include <pthread.h>
#include <sys/wait.h>

#include "blocks.h"

static void allocate_much(void) {
  struct chain chain = {0};
  chain_grow_by(&chain, 40 * kMiB, 20 * kKiB);
  chain_drop(&chain);
}

int main(void) {
  CHECK_EQ(pthread_atfork(allocate_much, allocate_much, allocate_much), 0);
  for (int i = 0; i < 10; ++i) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      allocate_much();
      if (memlimit_is_loaded()) memlimit_reclaim(0);
      if (i % 2 == 0) exit(0);
      _exit(0);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
  return 0;
}
