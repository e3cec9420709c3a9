/* The header's example of a safe inline hook: a free-list of whole nodes behind one atomic pointer, emptied inside malloc.
 * Since it runs in the thread that allocates, usage never gets further past the limit than the quanta allow. */
#include <stdatomic.h>

#include "blocks.h"

struct node {
  struct node* next;
  char payload[2000];
};
static _Atomic(struct node*) spare;
static _Atomic int calls;

static int64_t drop_spare(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  ++calls;
  int64_t freed = 0;
  struct node* node = atomic_exchange(&spare, NULL);
  while (node != NULL) {
    struct node* next = node->next;
    freed += (int64_t)malloc_usable_size(node);
    free(node);
    node = next;
  }
  return freed;
}

int main(void) {
  need_library();
  CHECK_EQ(memlimit_get(), 32 * kMiB);
  const struct memlimit_hook hook = {sizeof hook, "spare", MEMLIMIT_INLINE, drop_spare, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  for (int i = 0; i < 200000; ++i) { /* 400 MB in all */
    struct node* node = malloc(sizeof *node);
    CHECK(node != NULL);
    node->payload[0] = 1;
    node->next = atomic_load(&spare);
    while (!atomic_compare_exchange_weak(&spare, &node->next, node)) {
    }
  }
  CHECK(calls >= 10);
  const struct memlimit_stats stats = stats_now();
  CHECK(stats.heap_peak <= 34 * (int64_t)kMiB); /* 1 MiB of bound and 1 of slack */
  CHECK(stats.reclaimed >= 300 * (int64_t)kMiB);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
