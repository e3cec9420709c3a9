/* A memlimit_reclaim() that comes while ASYNC hooks run for another one is served by a pass of its own, and does not
 * return before that; of several that wait for it the largest is asked for. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "check.h"

enum { kFirstBytes = 1 << 20, kSecondBytes = 3 << 20, kThirdBytes = 2 << 20 };

static sem_t entered, go_on;
static atomic_int calls;
static int64_t asked[16];
static atomic_int waiting_tids[2];

static int64_t note(const struct memlimit_request* request, void* argument) {
  (void)argument;
  const int call = atomic_load(&calls);
  if (call < 16) asked[call] = request->wanted_bytes;
  atomic_fetch_add(&calls, 1);
  if (call == 0) {
    sem_post(&entered);
    while (sem_wait(&go_on) != 0) {
    }
  }
  return 0;
}

static void* ask_first(void* argument) {
  (void)argument;
  memlimit_reclaim(kFirstBytes);
  return NULL;
}

static void* ask_meanwhile(void* argument) {
  const int index = *(const int*)argument;
  atomic_store(&waiting_tids[index], gettid());
  memlimit_reclaim(index == 0 ? kSecondBytes : kThirdBytes);
  CHECK(atomic_load(&calls) >= 2);
  return NULL;
}

int main(void) {
  need_library();
  settle();
  CHECK_EQ(sem_init(&entered, 0, 0), 0);
  CHECK_EQ(sem_init(&go_on, 0, 0), 0);
  const struct memlimit_hook hook = {sizeof hook, "noted", MEMLIMIT_ASYNC, note, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);

  pthread_t first, others[2];
  int indices[2] = {0, 1};
  CHECK_EQ(pthread_create(&first, NULL, ask_first, NULL), 0);
  while (sem_wait(&entered) != 0) {
  }
  for (int i = 0; i < 2; ++i)
    CHECK_EQ(pthread_create(&others[i], NULL, ask_meanwhile, &indices[i]), 0);
  /* Asleep, they have asked; but for one that waited for a lock on the way. */
  for (int i = 0; i < 2; ++i) {
    while (atomic_load(&waiting_tids[i]) == 0 || thread_state(atomic_load(&waiting_tids[i])) != 'S')
      usleep(1000);
  }
  CHECK_EQ(atomic_load(&calls), 1);
  sem_post(&go_on);
  CHECK_EQ(pthread_join(first, NULL), 0);
  for (int i = 0; i < 2; ++i) CHECK_EQ(pthread_join(others[i], NULL), 0);

  const int served = atomic_load(&calls);
  CHECK(served == 2 || served == 3);
  CHECK_EQ(asked[0], kFirstBytes);
  CHECK(asked[1] == kSecondBytes || asked[2] == kSecondBytes);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
