/* realloc(p, 0) frees p and answers NULL; realloc(NULL, 0) is malloc(0), a block. */
#include <stdlib.h>

#include "check.h"

int main(void) {
  /* The blocks freed must be available again: 64 GiB in total would not be, if they leaked. */
  for (int i = 0; i < 4096; ++i) {
    void* block = malloc(opaque_size(16 << 20));
    CHECK(block != NULL);
    *(volatile char*)block = 1;
    CHECK(opaque(realloc(block, opaque_size(0))) == NULL);
  }
  for (size_t size = 0; size < 100000; size = size * 2 + 1) {
    void* block = malloc(size);
    CHECK(block != NULL);
    if (memlimit_is_loaded()) {
      int64_t before = stats_now().total_freed;
      CHECK(opaque(realloc(block, opaque_size(0))) == NULL);
      CHECK(stats_now().total_freed - before >= (int64_t)size);
    } else {
      CHECK(opaque(realloc(block, opaque_size(0))) == NULL);
    }
  }
  void* block = realloc(NULL, opaque_size(0));
  CHECK(block != NULL);
  free(block);
  block = realloc(NULL, opaque_size(100));
  CHECK(block != NULL);
  memset(block, 1, 100);
  free(block);
  return 0;
}
