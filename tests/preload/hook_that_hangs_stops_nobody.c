/* While an async hook hangs, threads over the limit go on allocating (their waits are bounded), statistics are read, hooks
 * added and the limit changed. When it returns, all is as before; and the program may also exit while one hangs. */
#include <pthread.h>
#include <semaphore.h>

#include "blocks.h"

static sem_t entered, may_leave;
static _Atomic int calls;

static int64_t hang(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  const int call = calls++;
  if (call == 0 || call < 0) {
    sem_post(&entered);
    while (sem_wait(&may_leave) != 0) {
    }
  }
  return 0;
}

static int64_t do_nothing(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  return 0;
}

static void* allocate(void* unused) {
  (void)unused;
  struct chain chain = {0};
  for (int turn = 0; turn < 4; ++turn) {
    chain_grow_by(&chain, 20 * kMiB, 10 * kKiB);
    chain_drop(&chain);
  }
  return NULL;
}

int main(void) {
  need_library();
  CHECK_EQ(memlimit_get(), 16 * kMiB);
  CHECK_EQ(sem_init(&entered, 0, 0), 0);
  CHECK_EQ(sem_init(&may_leave, 0, 0), 0);
  const struct memlimit_hook hook = {sizeof hook, "hangs", MEMLIMIT_ASYNC, hang, NULL};
  const struct memlimit_hook quiet = {sizeof quiet, "quiet", MEMLIMIT_ASYNC, do_nothing, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  struct chain chain = {0};
  chain_grow_by(&chain, 20 * kMiB, 10 * kKiB);
  while (sem_wait(&entered) != 0) {
  }
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) CHECK_EQ(pthread_create(&threads[i], NULL, allocate, NULL), 0);
  for (int i = 0; i < 2; ++i) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  CHECK(stats_now().heap_alloc >= 20 * kMiB);
  memlimit_hook_id quiet_id = 0;
  CHECK_EQ(memlimit_hook_add(&quiet, &quiet_id), 0);
  CHECK_EQ(memlimit_hook_remove(quiet_id), 0);
  CHECK_EQ(memlimit_set(17 * kMiB), 16 * kMiB);
  CHECK_EQ(calls, 1); /* never on two threads at once, nor while it runs */
  sem_post(&may_leave);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  chain_drop(&chain);

  calls = -1; /* the next one hangs for good */
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  chain_grow_by(&chain, 20 * kMiB, 10 * kKiB);
  while (sem_wait(&entered) != 0) {
  }
  return 0;
}
