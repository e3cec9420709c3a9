/* memlimit_reclaim runs async and inline hooks whatever the usage, asks for the bytes it was told to, and answers with
 * what usage really fell by: what a hook claims without freeing does not count. */
#include <pthread.h>

#include "blocks.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chain cache;
static _Atomic int64_t last_wanted;
static _Atomic int boasts;

static int64_t shrink_cache(const struct memlimit_request* request, void* argument) {
  (void)argument;
  last_wanted = request->wanted_bytes;
  CHECK_EQ(request->limit_bytes, 0); /* none is set */
  int64_t freed = 0;
  pthread_mutex_lock(&lock);
  while (freed < request->wanted_bytes && cache.head != NULL) freed += chain_shrink(&cache);
  pthread_mutex_unlock(&lock);
  return freed;
}

static int64_t boast(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  ++boasts;
  return 1000 * (int64_t)kMiB;
}

int main(void) {
  need_library();
  settle();
  CHECK_EQ(memlimit_get(), 0);
  chain_grow_by(&cache, 64 * kMiB, 32 * kKiB);
  const struct memlimit_hook hook = {sizeof hook, "cache", MEMLIMIT_ASYNC, shrink_cache, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);

  int64_t before = stats_now().heap_alloc;
  const int64_t answer = memlimit_reclaim(8 * kMiB);
  CHECK(answer >= 8 * kMiB);
  CHECK(last_wanted >= 8 * kMiB && last_wanted < 64 * kMiB);
  CHECK(before - stats_now().heap_alloc >= 8 * kMiB);
  CHECK(cache.usable_bytes >= 40 * kMiB); /* asked for 8, not for all */
  CHECK(stats_now().reclaimed >= 8 * kMiB);

  CHECK(memlimit_reclaim(0) >= 40 * kMiB); /* all that can be had */
  CHECK_EQ(cache.usable_bytes, 0);
  CHECK_EQ(memlimit_hook_remove(id), 0);

  const struct memlimit_hook boaster = {sizeof boaster, "boast", MEMLIMIT_ASYNC, boast, NULL};
  CHECK_EQ(memlimit_hook_add(&boaster, &id), 0);
  (void)memlimit_reclaim(0); /* takes along what pages were still idle */
  CHECK(memlimit_reclaim(0) < 500 * (int64_t)kMiB);
  CHECK(boasts >= 2);
  CHECK(memlimit_reclaim(-1) >= 0);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
