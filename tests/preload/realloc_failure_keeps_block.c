/* A realloc that cannot be granted leaves the block, its content and its charge as they were. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

int main(void) {
  settle();
  const size_t sizes[] = {1, 100, 5000, 200000, 8 << 20};
  const size_t too_large[] = {(size_t)PTRDIFF_MAX + 1, (size_t)PTRDIFF_MAX, SIZE_MAX - 4096,
                              SIZE_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    unsigned char* block = malloc(sizes[i]);
    CHECK(block != NULL);
    memset(block, 0xc3, sizes[i]);
    const size_t usable = malloc_usable_size(block);
    const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
    for (size_t k = 0; k < sizeof too_large / sizeof too_large[0]; ++k) {
      errno = 0;
      CHECK(realloc(block, opaque_size(too_large[k])) == NULL);
      CHECK_EQ(errno, ENOMEM);
    }
    CHECK_EQ(malloc_usable_size(block), usable);
    for (size_t k = 0; k < sizes[i]; ++k) CHECK(block[k] == 0xc3);
    if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc, before);
    free(block);
  }
  return 0;
}
