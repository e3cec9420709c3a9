/* What a program does that takes failing allocations in its stride: threads that allocate, hand over and free,
 * children of fork, hooks, statistics, well beyond the limit. faults_test.py runs it while the kernel refuses one
 * kind of call now and then; what must hold is what the program itself can see. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { kThreads = 3, kTurns = 15, kBlocks = 200 };

static long refused;

static void* take(size_t bytes) {
  errno = 0;
  unsigned char* block = malloc(bytes);
  if (block == NULL) {
    CHECK(errno == ENOMEM);
    __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
    return NULL;
  }
  CHECK(malloc_usable_size(block) >= bytes);
  block[0] = block[bytes - 1] = (unsigned char)bytes;
  return block;
}

static void* shared_blocks[kBlocks]; /* taken and freed by whichever thread comes by */

static void* churn(void* argument) {
  unsigned seed = (unsigned)(uintptr_t)argument;
  for (int turn = 0; turn < kTurns; ++turn) {
    for (int i = 0; i < kBlocks; ++i) {
      seed = seed * 1103515245 + 12345;
      const size_t bytes = seed % 16 == 0 ? 200000 + seed % 800000 : 16 + seed % 4000;
      free(__atomic_exchange_n(&shared_blocks[seed / 65536 % kBlocks], take(bytes),
                               __ATOMIC_ACQ_REL));
    }
  }
  return NULL;
}

static int64_t give(const struct memlimit_request* request, void* argument) {
  (void)argument;
  int64_t freed = 0;
  for (int i = 0; i < kBlocks && freed < request->wanted_bytes; ++i) {
    void* block = __atomic_exchange_n(&shared_blocks[i], NULL, __ATOMIC_ACQ_REL);
    freed += (int64_t)malloc_usable_size(block);
    free(block);
  }
  return freed;
}

static void work(void) {
  pthread_t threads[kThreads];
  int started = 0;
  for (uintptr_t i = 0; i < kThreads; ++i) {
    if (pthread_create(&threads[started], NULL, churn, (void*)(i + 1)) == 0) ++started;
  }
  churn((void*)99);
  for (int i = 0; i < started; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(void) {
  if (memlimit_is_loaded()) {
    memlimit_hook_id id = 0;
    const struct memlimit_hook hook = {sizeof hook, "blocks", MEMLIMIT_ASYNC, give, NULL};
    CHECK(memlimit_hook_add(&hook, &id) == 0);
  }
  work();
  for (int i = 0; i < 3; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      work();
      _exit(0);
    }
    int status = 0;
    if (child > 0) CHECK(waitpid(child, &status, 0) == child && status == 0);
  }
  if (memlimit_is_loaded()) {
    memlimit_set(2 << 20);
    memlimit_reclaim(0);
    const struct memlimit_stats stats = stats_now();
    CHECK(stats.heap_alloc >= 0 && stats.total_alloc - stats.total_freed == stats.heap_alloc);
  }
  for (int i = 0; i < kBlocks; ++i) free(shared_blocks[i]);
  printf("done, %ld refused\n", refused);
  return 0;
}
