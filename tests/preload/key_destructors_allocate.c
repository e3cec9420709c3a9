/* Destructors of thread-specific data allocate and free in every round that pthread grants them, before and after
 * libmemlimit's and the allocator's own; afterwards usage is exact to the byte. */
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

enum { kKeys = 30, kThreads = 50, kStackBytes = 256 << 10 };
static pthread_key_t keys[kKeys];
static _Alignas(4096) char stack_memory[kStackBytes];
static __thread int rounds_left;
static void* left_behind[kThreads];
static int thread_number;
static int rounds_seen;

static void destroy(void* block) {
  /* The key is found by its value: each block begins with the index. */
  const int index = *(int*)block;
  for (size_t size = 1; size < 300000; size *= 7) {
    char* scratch = malloc(size);
    CHECK(scratch != NULL);
    scratch[size - 1] = 1;
    scratch = realloc(scratch, size * 2);
    CHECK(scratch != NULL);
    free(scratch);
  }
  free(block);
  if (index == 0) {
    ++rounds_seen;
    --rounds_left;
  }
  if (rounds_left > 0) { /* so that there is another round */
    int* next = malloc(64 + (size_t)index * 100);
    CHECK(next != NULL);
    *next = index;
    CHECK_EQ(pthread_setspecific(keys[index], next), 0);
  } else if (index == 0) {
    left_behind[thread_number] = calloc(1, 5000); /* made after everything else, freed by main */
    CHECK(left_behind[thread_number] != NULL);
  }
}

static void* run(void* unused) {
  (void)unused;
  rounds_left = PTHREAD_DESTRUCTOR_ITERATIONS;
  for (int i = 0; i < kKeys; ++i) {
    int* value = malloc(sizeof(int));
    CHECK(value != NULL);
    *value = i;
    CHECK_EQ(pthread_setspecific(keys[i], value), 0);
  }
  return NULL;
}

static void run_thread(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  CHECK_EQ(pthread_attr_init(&attributes), 0);
  CHECK_EQ(pthread_attr_setstack(&attributes, stack_memory, kStackBytes), 0);
  CHECK_EQ(pthread_create(&thread, &attributes, run, NULL), 0);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  pthread_attr_destroy(&attributes);
}

int main(void) {
  settle();
  for (int i = 0; i < kKeys; ++i) CHECK_EQ(pthread_key_create(&keys[i], destroy), 0);
  run_thread(); /* once unmeasured */
  free(left_behind[0]);
  left_behind[0] = NULL;
  rounds_seen = 0;
  const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  for (thread_number = 0; thread_number < kThreads; ++thread_number) run_thread();
  CHECK_EQ(rounds_seen, kThreads * PTHREAD_DESTRUCTOR_ITERATIONS);
  int64_t left_bytes = 0;
  for (int i = 0; i < kThreads; ++i) left_bytes += (int64_t)malloc_usable_size(left_behind[i]);
  if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc - before, left_bytes);
  for (int i = 0; i < kThreads; ++i) free(left_behind[i]);
  if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc, before);
  return 0;
}
