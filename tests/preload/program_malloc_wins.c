/* A program that brings a malloc of its own keeps it: the library must neither call it for blocks of its own nor
 * crash when all of the process's blocks come from there. */
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

/* A bump allocator: a block is never used again, which the little that runs here can afford. */
static _Alignas(16) char pool[64 << 20];
static size_t pool_used;
static unsigned calls;

static void* bump(size_t alignment, size_t size) {
  __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
  const size_t whole = (size + alignment + 31) & ~(size_t)15;
  const size_t offset = __atomic_fetch_add(&pool_used, whole, __ATOMIC_RELAXED);
  if (offset + whole > sizeof pool) return NULL;
  uintptr_t at = (uintptr_t)pool + offset + 16;
  at = (at + alignment - 1) & ~(uintptr_t)(alignment - 1);
  ((size_t*)at)[-1] = size;
  return (void*)at;
}

static int in_pool(const void* block) { return (uintptr_t)block - (uintptr_t)pool < sizeof pool; }

void* malloc(size_t size) { return bump(16, size); }
void* calloc(size_t count, size_t size) {
  return bump(16, count * size);
} /* the pool is zero and used once */
void* aligned_alloc(size_t alignment, size_t size) { return bump(alignment, size); }
void* memalign(size_t alignment, size_t size) { return bump(alignment, size); }
int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = bump(alignment, size);
  return *block == NULL ? ENOMEM : 0;
}
void free(void* block) {
  if (block != NULL && !in_pool(block))
    finish_saying(1, "a block that is not ours reached the program's free");
}
void* realloc(void* block, size_t size) {
  if (block != NULL && !in_pool(block))
    finish_saying(1, "a block that is not ours reached the program's realloc");
  void* grown = bump(16, size);
  if (grown != NULL && block != NULL) {
    const size_t old_size = ((size_t*)block)[-1];
    memcpy(grown, block, old_size < size ? old_size : size);
  }
  return grown;
}

static void* allocate_in_thread(void* unused) {
  (void)unused;
  for (size_t i = 1; i < 1000; ++i) {
    char* block = malloc(i);
    CHECK(in_pool(block));
    free(realloc(block, 2 * i));
  }
  return NULL;
}

int main(void) {
  char* copy = strdup("libc calls the program's malloc");
  CHECK(in_pool(copy));
  free(copy);
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i)
    CHECK_EQ(pthread_create(&threads[i], NULL, allocate_in_thread, NULL), 0);
  for (int i = 0; i < 4; ++i) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  CHECK(calls > 4000);
  if (memlimit_is_loaded()) {
    memlimit_reclaim(0);
    CHECK(stats_now().heap_alloc >= 0);
  }
  return 0;
}
