/* The child of a fork has the parent's blocks and a heap that works: it frees and resizes them, allocates, starts
 * threads, and exits either way. Its usage begins as the parent's, less what libc allocates for the service thread. */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "check.h"

enum { kBlocks = 200, kForks = 100 };
static unsigned char* blocks[kBlocks];

static void* allocate_in_thread(void* unused) {
  (void)unused;
  for (size_t size = 1; size < (4 << 20); size *= 3) {
    char* block = malloc(size);
    CHECK(block != NULL);
    block[size - 1] = 1;
    free(block);
  }
  return NULL;
}

/* The service thread is not in the child, and comes back to the parent when it is wanted. */
static void check_same(int64_t before) {
  const int64_t thread = before - stats_now().heap_alloc;
  CHECK(thread >= -512 && thread <= 512);
}

static void run_child(int number, int64_t parent_heap) {
  if (memlimit_is_loaded()) check_same(parent_heap);
  settle();
  int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  for (int i = 0; i < kBlocks; ++i) {
    CHECK(blocks[i][0] == (unsigned char)i);
    before -= (int64_t)malloc_usable_size(blocks[i]);
    if (i % 3 == 0) {
      blocks[i] = realloc(blocks[i], 10000);
      CHECK(blocks[i] != NULL && blocks[i][0] == (unsigned char)i);
    }
    free(blocks[i]);
  }
  if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc, before);
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i)
    CHECK_EQ(pthread_create(&threads[i], NULL, allocate_in_thread, NULL), 0);
  allocate_in_thread(NULL);
  for (int i = 0; i < 2; ++i) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  if (number % 10 == 0) { /* a grandchild */
    const pid_t grandchild = fork();
    CHECK(grandchild >= 0);
    if (grandchild == 0) {
      allocate_in_thread(NULL);
      exit(0);
    }
    int status = 0;
    CHECK_EQ(waitpid(grandchild, &status, 0), grandchild);
    CHECK_EQ(status, 0);
  }
  if (number % 2 == 0) exit(0);
  _exit(0);
}

int main(void) {
  settle();
  for (int i = 0; i < kBlocks; ++i) {
    const size_t size = (size_t)1 << (i % 20);
    blocks[i] = malloc(size);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], i, size);
  }
  for (int number = 0; number < kForks; ++number) {
    const int64_t heap = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) run_child(number, heap);
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    if (memlimit_is_loaded()) check_same(heap);
  }
  return 0;
}
