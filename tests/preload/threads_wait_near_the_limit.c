/* A thread that allocates while an ASYNC hook is under way goes on as long as there is room, and waits for it once just
 * below the limit: so that it does not go past the limit first. */
#include <semaphore.h>

#include "blocks.h"

static sem_t entered, may_leave;
static _Atomic int calls;

static int64_t hang(const struct memlimit_request* request, void* unused) {
  (void)request;
  (void)unused;
  if (calls++ > 0) return 0;
  sem_post(&entered);
  while (sem_wait(&may_leave) != 0) {
  }
  return 0;
}

static void grow_to_percent(struct chain* chain, int percent) {
  const int64_t enough = memlimit_get() / 100 * percent;
  while (stats_now().paced < enough) chain_grow_by(chain, 16 * kKiB, 4 * kKiB);
}

int main(void) {
  need_library();
  CHECK_EQ(memlimit_get(), 64 * kMiB);
  CHECK_EQ(sem_init(&entered, 0, 0), 0);
  CHECK_EQ(sem_init(&may_leave, 0, 0), 0);
  const struct memlimit_hook hook = {sizeof hook, "hangs", MEMLIMIT_ASYNC, hang, NULL};
  memlimit_hook_id id;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  struct chain chain = {0};
  grow_to_percent(&chain, 80);
  while (sem_wait(&entered) != 0) {
  }
  grow_to_percent(&chain, 97);
  CHECK_EQ(stats_now().assists, 0);
  grow_to_percent(&chain, 99);
  CHECK_EQ(stats_now().assists, 1);
  CHECK(stats_now().paced < memlimit_get());
  sem_post(&may_leave);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  chain_drop(&chain);
  return 0;
}
