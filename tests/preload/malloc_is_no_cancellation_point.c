/* A thread with a cancellation pending allocates and frees past every mark, over its limit too, without being cancelled
 * inside malloc: POSIX does not list it among the cancellation points, and programs hold locks there. */
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

enum { kThreads = 10, kBlocks = 200 };
static int survived;

static void* allocate_while_cancelled(void* unused) {
  (void)unused;
  CHECK_EQ(pthread_cancel(pthread_self()), 0); /* deferred: takes effect at a cancellation point */
  void* blocks[kBlocks];
  for (int turn = 0; turn < 5; ++turn) {
    for (int i = 0; i < kBlocks; ++i) {
      blocks[i] = malloc(100000);
      CHECK(blocks[i] != NULL);
      *(volatile char*)blocks[i] = 1;
    }
    for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
    if (memlimit_is_loaded()) {
      (void)stats_now();
      memlimit_charge(1 << 20);
      memlimit_charge(-(1 << 20));
    }
  }
  __atomic_fetch_add(&survived, 1, __ATOMIC_RELAXED);
  for (;;) pthread_testcancel();
  return NULL;
}

int main(void) {
  for (int i = 0; i < kThreads; ++i) {
    pthread_t thread;
    void* result = NULL;
    CHECK_EQ(pthread_create(&thread, NULL, allocate_while_cancelled, NULL), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
  }
  CHECK_EQ(survived, kThreads);
  return 0;
}
