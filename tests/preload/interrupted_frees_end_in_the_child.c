/* A thread that is in the middle of freeing another's block when that one forks leaves a mark on the block's page, for
 * which mimalloc 2 waits for ever in the child. Here the marks are made by hand, on every page of the forking thread,
 * after another thread has freed some of their blocks: the child goes on to use them. In a second part, real threads
 * free the forking thread's blocks, many times. */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "check.h"

enum { kBlocks = 4096, kBytes = 512, kForks = 150, kFreers = 2, kHangGuardSeconds = 60 };

/* mimalloc.h's; the library is not linked with. */
struct area {
  void* blocks;
  size_t reserved, committed, used, block_size, full_block_size;
};
struct area_and_page {
  struct area area;
  uintptr_t* page;
};
typedef bool visitor(const void* heap, const struct area* area, void* block, size_t size,
                     void* arg);
static bool (*visit_blocks)(const void* heap, bool blocks, visitor* visit, void* arg);
static void* (*default_heap)(void);

static void* _Atomic shelf[kBlocks];
static atomic_bool stop;

/* Sets or clears the mark of every page that has no block freed by others. */
static bool mark(const void* heap, const struct area* area, void* block, size_t size, void* arg) {
  (void)block, (void)size;
  uintptr_t* page = ((const struct area_and_page*)area)->page;
  int owner = 1;
  while (owner < 16 && page[owner] != (uintptr_t)heap) owner++;
  CHECK(owner < 16);
  const uintptr_t freeing = 1;
  if (arg != NULL) {
    page[owner - 1] = (page[owner - 1] & ~(uintptr_t)3) | freeing;
  } else if ((page[owner - 1] & 3) == freeing) {
    page[owner - 1] &= ~(uintptr_t)3;
  }
  return true;
}

static void* free_some_and_stay(void* freed) {
  for (int i = 1; i < kBlocks; i += 64) free(atomic_exchange(&shelf[i], NULL));
  atomic_store((atomic_bool*)freed, true);
  while (!atomic_load(&stop)) usleep(1000);
  return NULL;
}

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

static void fork_and_wait(bool by_hand) {
  if (by_hand) visit_blocks(default_heap(), false, mark, &stop);
  const pid_t child = fork();
  if (child == 0) use_the_heap();
  if (by_hand) visit_blocks(default_heap(), false, mark, NULL);
  CHECK(child > 0);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

int main(void) {
  int (*version)(void);
  *(void**)&version = dlsym(RTLD_DEFAULT, "mi_version");
  *(void**)&visit_blocks = dlsym(RTLD_DEFAULT, "mi_heap_visit_blocks");
  *(void**)&default_heap = dlsym(RTLD_DEFAULT, "mi_heap_get_default");
  need_library();
  CHECK(version != NULL && visit_blocks != NULL && default_heap != NULL);
  pthread_t threads[kFreers];
  if (version() < 300) {
    for (int i = 0; i < kBlocks; i++) shelf[i] = malloc(kBytes);
    atomic_bool freed = false;
    CHECK_EQ(pthread_create(&threads[0], NULL, free_some_and_stay, &freed), 0);
    while (!atomic_load(&freed)) usleep(1000);
    fork_and_wait(true);
    atomic_store(&stop, true);
    CHECK_EQ(pthread_join(threads[0], NULL), 0);
    atomic_store(&stop, false);
  }
  for (uintptr_t i = 0; i < kFreers; i++)
    CHECK_EQ(pthread_create(&threads[i], NULL, free_what_there_is, (void*)(i + 1)), 0);
  uint64_t random = 4711;
  for (int i = 0; i < kForks; i++) {
    put_some(&random);
    fork_and_wait(false);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < kFreers; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  return 0;
}
