/* A block of 16 bytes or more is aligned to 16 (max_align_t, SSE), a smaller one for any object that fits in it,
 * whichever function made it. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

static void check_aligned(const void* block, size_t size) {
  CHECK(block != NULL);
  const size_t alignment = size >= 16 ? 16 : size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
  CHECK_EQ((uintptr_t)block % alignment, 0);
}

int main(void) {
  void* kept[4000];
  size_t kept_count = 0;
  for (size_t size = 0; size < 3000; ++size) {
    void* block = malloc(size);
    check_aligned(block, size);
    kept[kept_count++] = block;
    void* zeroed = calloc(1, size);
    check_aligned(zeroed, size);
    void* resized = realloc(zeroed, size + 24);
    check_aligned(resized, size + 24);
    free(resized);
  }
  for (size_t size = 3000; size < (64 << 20); size = size + size / 7) {
    void* block = malloc(size);
    check_aligned(block, size);
    block = realloc(block, size / 2);
    check_aligned(block, size / 2);
    block = realloc(block, size * 2);
    check_aligned(block, size * 2);
    free(block);
  }
  while (kept_count > 0) free(kept[--kept_count]);
  return 0;
}
