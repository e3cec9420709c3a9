/* Threads free the blocks of one that forks, all the time: whatever each of them was in the middle of, the child uses the heap
 * as if they had never been there. */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "check.h"

enum { kBlocks = 4096, kBytes = 512, kForks = 150, kFreers = 2, kHangGuardSeconds = 60 };

static void* _Atomic shelf[kBlocks];
static atomic_bool stop;

static void* free_what_there_is(void* seed) {
  uint64_t random = (uintptr_t)seed;
  while (!atomic_load_explicit(&stop, memory_order_relaxed))
    free(atomic_exchange(&shelf[next_random(&random) % kBlocks], NULL));
  return NULL;
}

static void put_some(uint64_t* random) {
  for (int i = 0; i < 500; i++) {
    void* block = malloc(kBytes);
    CHECK(block != NULL);
    free(atomic_exchange(&shelf[next_random(random) % kBlocks], block));
  }
}

static void use_the_heap(void) {
  alarm(kHangGuardSeconds);
  for (int i = 0; i < kBlocks; i += 2) free(atomic_exchange(&shelf[i], NULL));
  for (int i = 0; i < kBlocks; i++) CHECK(malloc(kBytes) != NULL);
  malloc_trim(0);
  _exit(0);
}

static void fork_and_wait(void) {
  const pid_t child = fork();
  if (child == 0) use_the_heap();
  CHECK(child > 0);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

int main(void) {
  need_library();
  pthread_t threads[kFreers];
  for (uintptr_t i = 0; i < kFreers; i++)
    CHECK_EQ(pthread_create(&threads[i], NULL, free_what_there_is, (void*)(i + 1)), 0);
  uint64_t random = 4711;
  for (int i = 0; i < kForks; i++) {
    put_some(&random);
    fork_and_wait();
  }
  atomic_store(&stop, true);
  for (int i = 0; i < kFreers; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  return 0;
}
