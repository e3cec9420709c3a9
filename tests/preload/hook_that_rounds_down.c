/* A hook that evicts whole entries gives nothing for a few bytes. The limit holds, and the service thread goes on. */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

enum { kEntryBytes = 4096 };
static const int64_t kFilledBytes = (int64_t)1 << 30;

struct entry {
  struct entry* next;
};

static struct entry* newest;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int64_t evict(const struct memlimit_request* request, void* argument) {
  (void)argument;
  int64_t freed = 0;
  pthread_mutex_lock(&lock);
  for (int64_t left = request->wanted_bytes / kEntryBytes; left > 0 && newest != NULL; --left) {
    struct entry* const entry = newest;
    newest = entry->next;
    freed += (int64_t)malloc_usable_size(entry);
    free(entry);
  }
  pthread_mutex_unlock(&lock);
  return freed;
}

int main(void) {
  need_library();
  const int64_t limit = memlimit_get();
  const struct memlimit_hook hook = {sizeof hook, "entries", MEMLIMIT_ASYNC, evict, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  for (int64_t filled = 0; filled < kFilledBytes; filled += kEntryBytes) {
    struct entry* const entry = malloc(kEntryBytes);
    CHECK(entry != NULL);
    pthread_mutex_lock(&lock);
    entry->next = newest;
    newest = entry;
    pthread_mutex_unlock(&lock);
    /* Far beyond what a busy machine makes of it: nothing is reclaimed any more. */
    if (filled % limit == 0) CHECK(stats_now().heap_alloc < 4 * limit);
  }
  /* Served by the same thread. */
  const int64_t calls = stats_now().hook_calls;
  memlimit_reclaim(0);
  CHECK(stats_now().hook_calls > calls);
  CHECK(stats_now().heap_alloc < limit / 2);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
