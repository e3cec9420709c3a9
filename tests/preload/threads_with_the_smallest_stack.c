/* Threads with PTHREAD_STACK_MIN bytes of stack allocate past every mark and over the limit, call the reports and the
 * interface: no path of ours needs more stack than that. The guard page turns an overflow into a crash. */
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

enum { kThreads = 20 };

static void* allocate(void* unused) {
  (void)unused;
  for (int turn = 0; turn < 20; ++turn) {
    void* head = NULL;
    for (int i = 0; i < 200; ++i) {
      void** block = malloc(20000);
      CHECK(block != NULL);
      *block = head;
      head = block;
    }
    while (head != NULL) {
      void* next = *(void**)head;
      free(head);
      head = next;
    }
  }
  if (memlimit_is_loaded()) {
    CHECK(stats_now().total_alloc > 0);
    memlimit_reclaim(1);
    memlimit_poll();
  }
  return NULL;
}

int main(void) {
  pthread_attr_t attributes;
  CHECK_EQ(pthread_attr_init(&attributes), 0);
  CHECK_EQ(pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN), 0);
  for (int i = 0; i < kThreads; ++i) {
    pthread_t threads[2];
    for (int k = 0; k < 2; ++k)
      CHECK_EQ(pthread_create(&threads[k], &attributes, allocate, NULL), 0);
    for (int k = 0; k < 2; ++k) CHECK_EQ(pthread_join(threads[k], NULL), 0);
  }
  return 0;
}
