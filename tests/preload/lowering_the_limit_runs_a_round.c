/* memlimit_set below present usage makes a round due at once: the hook is asked though the program allocates nothing
 * more, and can bring usage under the new limit. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include "blocks.h"

static sem_t enough_freed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chain cache;

static int64_t shrink_cache(const struct memlimit_request* request, void* argument) {
  (void)argument;
  int64_t freed = 0;
  pthread_mutex_lock(&lock);
  while (freed < request->wanted_bytes && cache.head != NULL) freed += chain_shrink(&cache);
  const int small = cache.usable_bytes < 16 * kMiB;
  pthread_mutex_unlock(&lock);
  if (small) sem_post(&enough_freed);
  return freed;
}

int main(void) {
  need_library();
  CHECK_EQ(sem_init(&enough_freed, 0, 0), 0);
  CHECK_EQ(memlimit_get(), 512 * (int64_t)kMiB);
  const struct memlimit_hook hook = {sizeof hook, "cache", MEMLIMIT_ASYNC, shrink_cache, NULL};
  memlimit_hook_id id = 0;
  chain_grow_by(&cache, 32 * kMiB, 64 * kKiB);
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  CHECK_EQ(memlimit_set(16 * kMiB), 512 * (int64_t)kMiB);
  while (sem_wait(&enough_freed) != 0) {
  }
  CHECK_EQ(memlimit_hook_remove(id), 0);
  const struct memlimit_stats stats = stats_now();
  CHECK(stats.heap_alloc <= 16 * kMiB);
  CHECK(stats.rounds >= 1);
  while (stats_now().reclaimed < 15 * kMiB) sched_yield(); /* told when the round ends */
  return 0;
}
