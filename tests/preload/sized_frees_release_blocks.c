/* free_sized and free_aligned_sized (C23), found by dlsym since older C libraries lack them, free what malloc,
 * calloc, realloc and aligned_alloc gave, and leave errno alone. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

int main(void) {
  settle();
  void (*free_sized_function)(void*, size_t) =
      (void (*)(void*, size_t))dlsym(RTLD_DEFAULT, "free_sized");
  void (*free_aligned_sized_function)(void*, size_t, size_t) =
      (void (*)(void*, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
  if (!memlimit_is_loaded() && free_sized_function == NULL) SKIP("this libc has no free_sized");
  CHECK(free_sized_function != NULL);
  CHECK(free_aligned_sized_function != NULL);

  const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  for (size_t size = 0; size < (40 << 20); size = size * 2 + 1) {
    errno = 4711;
    void* block = malloc(size);
    CHECK(block != NULL);
    free_sized_function(block, size);
    block = calloc(1, size);
    CHECK(block != NULL);
    free_sized_function(block, size);
    block = realloc(NULL, size);
    CHECK(block != NULL);
    free_sized_function(block, size);
    for (size_t alignment = 16; alignment <= 65536; alignment *= 4) {
      block = aligned_alloc(alignment, size);
      CHECK(block != NULL);
      free_aligned_sized_function(block, alignment, size);
    }
    CHECK_EQ(errno, 4711);
  }
  if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc, before);
  return 0;
}
