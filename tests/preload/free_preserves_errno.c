/* free leaves errno alone, also for large blocks whose pages go back to the kernel, and for blocks of other
 * threads. A successful malloc or realloc has no reason to change it either, and does not. */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

static void* blocks_of_main[64];

static void* free_in_thread(void* unused) {
  (void)unused;
  for (int i = 0; i < 64; ++i) {
    errno = 1000 + i;
    free(blocks_of_main[i]);
    CHECK_EQ(errno, 1000 + i);
  }
  return NULL;
}

int main(void) {
  for (size_t size = 1; size <= ((size_t)256 << 20); size = size * 2 + 1) {
    errno = 4711;
    char* block = malloc(size);
    CHECK(block != NULL);
    CHECK_EQ(errno, 4711);
    block[0] = 1;
    block[size - 1] = 1;
    errno = 4712;
    free(block);
    CHECK_EQ(errno, 4712);

    errno = 4713;
    void* aligned = memalign(1 << 16, size);
    CHECK(aligned != NULL);
    CHECK_EQ(errno, 4713);
    errno = 4714;
    free(aligned);
    CHECK_EQ(errno, 4714);
  }
  for (int i = 0; i < 64; ++i) {
    blocks_of_main[i] = malloc((size_t)1 << (i % 25));
    CHECK(blocks_of_main[i] != NULL);
  }
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, NULL, free_in_thread, NULL), 0);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  return 0;
}
