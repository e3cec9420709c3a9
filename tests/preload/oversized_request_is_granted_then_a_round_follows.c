/* A single request twice the limit is granted at once, counted as oversized, and a round follows without another
 * allocation; the limit never makes malloc fail. */
#include <semaphore.h>

#include "blocks.h"

static sem_t called;
static _Atomic int64_t usage_seen, wanted_seen;

static int64_t reclaim(const struct memlimit_request* request, void* argument) {
  (void)argument;
  if (request->usage_bytes > request->limit_bytes) {
    usage_seen = request->usage_bytes;
    wanted_seen = request->wanted_bytes;
    if (request->level == MEMLIMIT_OVER) sem_post(&called);
  }
  return 0;
}

int main(void) {
  need_library();
  CHECK_EQ(sem_init(&called, 0, 0), 0);
  CHECK_EQ(memlimit_get(), 32 * kMiB);
  const struct memlimit_hook hook = {sizeof hook, "probe", MEMLIMIT_ASYNC, reclaim, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  char* block = malloc(opaque_size(64 * kMiB));
  CHECK(block != NULL);
  block[0] = 1;
  while (sem_wait(&called) != 0) {
  }
  CHECK(usage_seen >= 64 * kMiB);
  CHECK(wanted_seen > 0 && wanted_seen <= 64 * kMiB);
  const struct memlimit_stats stats = stats_now();
  CHECK(stats.oversized >= 1);
  CHECK(stats.rounds >= 1);
  CHECK(stats.overshoot_peak >= 32 * kMiB);
  CHECK_EQ(stats.level, MEMLIMIT_OVER);
  CHECK(stats.headroom < 0);
  free(block);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
