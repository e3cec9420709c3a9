/* memlimit_hook_remove returns only when the hook is not running, and it never runs again: what it used may be freed. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/syscall.h>

#include "blocks.h"

static sem_t entered, may_leave;
static _Atomic int inside, left, removed, remover_id;
static memlimit_hook_id id;

static int64_t block_once(const struct memlimit_request* request, void* argument) {
  (void)request;
  CHECK(argument != NULL);
  CHECK(!removed);
  if (inside++ == 0) {
    sem_post(&entered);
    while (sem_wait(&may_leave) != 0) {
    }
    left = 1;
  }
  return 0;
}

static void* remove_hook(void* unused) {
  (void)unused;
  remover_id = (int)syscall(SYS_gettid);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  CHECK(left); /* it waited */
  removed = 1;
  return NULL;
}

static void* ask(void* unused) {
  (void)unused;
  memlimit_reclaim(0);
  return NULL;
}

int main(void) {
  need_library();
  CHECK_EQ(sem_init(&entered, 0, 0), 0);
  CHECK_EQ(sem_init(&may_leave, 0, 0), 0);
  void* belongings = malloc(100);
  const struct memlimit_hook hook = {sizeof hook, "blocks", MEMLIMIT_ASYNC, block_once, belongings};
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  pthread_t asking, removing;
  CHECK_EQ(pthread_create(&asking, NULL, ask, NULL), 0);
  while (sem_wait(&entered) != 0) {
  }
  CHECK_EQ(pthread_create(&removing, NULL, remove_hook, NULL), 0);
  /* The remover has either begun to wait, as it should, or wrongly returned. */
  while (remover_id == 0) sched_yield();
  if (thread_state(remover_id) == 0 && !removed) SKIP("no /proc here");
  while (thread_state(remover_id) != 'S' && !removed) sched_yield();
  CHECK(!removed);
  sem_post(&may_leave);
  CHECK_EQ(pthread_join(removing, NULL), 0);
  CHECK(removed);
  free(belongings);
  CHECK_EQ(pthread_join(asking, NULL), 0);
  const int calls = inside;
  for (int i = 0; i < 20; ++i) memlimit_reclaim(0);
  CHECK_EQ(inside, calls);
  return 0;
}
