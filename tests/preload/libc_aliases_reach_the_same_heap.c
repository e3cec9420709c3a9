/* The __libc_* names that programs and other preloads reach are the same heap: a block of one family may be
 * resized and freed by the other. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

extern void* __libc_malloc(size_t size);
extern void __libc_free(void* block);
extern void* __libc_calloc(size_t count, size_t size);
extern void* __libc_realloc(void* block, size_t size);
extern void* __libc_memalign(size_t alignment, size_t size);
extern void* __libc_valloc(size_t size);
extern void* __libc_pvalloc(size_t size);

int main(void) {
  settle();
  const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  for (size_t size = 1; size < (8 << 20); size = size * 3 + 1) {
    void* blocks[] = {
        __libc_malloc(size),        __libc_calloc(1, size), __libc_realloc(NULL, size),
        __libc_memalign(256, size), __libc_valloc(size),    __libc_pvalloc(size),
    };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; ++i) {
      CHECK(blocks[i] != NULL);
      CHECK(malloc_usable_size(blocks[i]) >= size);
      memset(blocks[i], 1, size);
      blocks[i] =
          i % 2 == 0 ? realloc(blocks[i], size + 100) : __libc_realloc(blocks[i], size + 100);
      CHECK(blocks[i] != NULL);
      free(blocks[i]);
    }
    void* block = malloc(size);
    CHECK(block != NULL);
    __libc_free(block);
  }
  errno = 0;
  CHECK(__libc_malloc(opaque_size(SIZE_MAX)) == NULL);
  CHECK_EQ(errno, ENOMEM);
  CHECK(__libc_realloc(__libc_malloc(10), opaque_size(0)) == NULL);
  void (*cfree_function)(void*) = (void (*)(void*))dlsym(RTLD_DEFAULT, "cfree");
  if (cfree_function != NULL) cfree_function(malloc(opaque_size(100)));
  if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc, before);
  return 0;
}
