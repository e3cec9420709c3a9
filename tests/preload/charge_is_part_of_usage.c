/* memlimit_charge counts as usage until it is taken off again, by another thread if need be, and can make a round due;
 * it is shown apart as `charged`, and blocks stay exact beside it. */
#include <pthread.h>
#include <semaphore.h>

#include "blocks.h"

static sem_t called;

static int64_t reclaim(const struct memlimit_request* request, void* argument) {
  (void)argument;
  if (request->level == MEMLIMIT_OVER) sem_post(&called);
  return 0;
}

static void* take_off(void* bytes) {
  memlimit_charge(-(int64_t)(intptr_t)bytes);
  return NULL;
}

int main(void) {
  need_library();
  CHECK_EQ(memlimit_get(), 64 * kMiB);
  CHECK_EQ(sem_init(&called, 0, 0), 0);
  const struct memlimit_hook hook = {sizeof hook, "probe", MEMLIMIT_ASYNC, reclaim, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  settle(); /* the service thread's own blocks are usage, too, and it may make them at any time before */

  const struct memlimit_stats before = stats_now();
  CHECK_EQ(before.charged, 0);
  memlimit_charge(10 * kMiB);
  struct memlimit_stats now = stats_now();
  CHECK_EQ(now.charged, 10 * kMiB);
  CHECK_EQ(before.headroom - now.headroom, 10 * kMiB);
  memlimit_charge(100 * kMiB);
  while (sem_wait(&called) != 0) {
  }
  CHECK_EQ(stats_now().charged, 110 * kMiB);
  CHECK(stats_now().headroom < 0);

  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, NULL, take_off, (void*)(intptr_t)(110 * kMiB)), 0);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  now = stats_now();
  CHECK_EQ(now.charged, 0);
  CHECK(now.headroom > 60 * kMiB);
  memlimit_charge(0);
  CHECK_EQ(stats_now().charged, 0);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
