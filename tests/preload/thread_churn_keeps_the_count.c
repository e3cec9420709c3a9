/* 2,000 short threads, several at once, leave blocks behind for each other to free: at the end usage is exact to the
 * byte, and no thread is still counted as alive. */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "check.h"

enum { kRounds = 500, kAtOnce = 4, kBlocksEach = 20, kShelf = 997, kStackBytes = 128 << 10 };

/* Stacks of our own: glibc then gives back what it allocates for a thread when the thread is joined. */
static _Alignas(4096) char stacks[kAtOnce][kStackBytes];
static void* _Atomic shelf[kShelf];

static void* live_shortly(void* seed) {
  uint64_t random = (uint64_t)(uintptr_t)seed * 2654435761u + 1;
  void* mine[kBlocksEach];
  for (int i = 0; i < kBlocksEach; ++i) {
    mine[i] = malloc(next_random(&random) % 3000);
    CHECK(mine[i] != NULL);
  }
  for (int i = 0; i < kBlocksEach; ++i) {
    void* other = mine[i];
    if (i % 2 == 0) other = atomic_exchange(&shelf[next_random(&random) % kShelf], mine[i]);
    if (i % 5 == 0) other = realloc(other, 1 + next_random(&random) % 5000);
    free(other);
  }
  return NULL;
}

static void run_threads(int first_seed) {
  pthread_t threads[kAtOnce];
  pthread_attr_t attributes;
  CHECK_EQ(pthread_attr_init(&attributes), 0);
  for (int i = 0; i < kAtOnce; ++i) {
    CHECK_EQ(pthread_attr_setstack(&attributes, stacks[i], kStackBytes), 0);
    CHECK_EQ(
        pthread_create(&threads[i], &attributes, live_shortly, (void*)(uintptr_t)(first_seed + i)),
        0);
  }
  for (int i = 0; i < kAtOnce; ++i) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  pthread_attr_destroy(&attributes);
}

static int64_t shelf_bytes(void) {
  int64_t sum = 0;
  for (int i = 0; i < kShelf; ++i) sum += (int64_t)malloc_usable_size(shelf[i]);
  return sum;
}

int main(void) {
  need_library();
  settle();
  run_threads(1); /* once unmeasured: pthread's own first allocations */
  const int64_t at_start = shelf_bytes();
  const struct memlimit_stats before = stats_now();
  for (int round = 1; round < kRounds; ++round) {
    run_threads(round * kAtOnce + 1);
    if (round % 100 == 0)
      CHECK_EQ(stats_now().heap_alloc - before.heap_alloc, shelf_bytes() - at_start);
  }
  const struct memlimit_stats after = stats_now();
  CHECK_EQ(after.heap_alloc - before.heap_alloc, shelf_bytes() - at_start);
  CHECK_EQ(after.threads, before.threads);
  for (int i = 0; i < kShelf; ++i) {
    free(shelf[i]);
    shelf[i] = NULL;
  }
  CHECK_EQ(stats_now().heap_alloc, before.heap_alloc - at_start);
  return 0;
}
