/* Every function that returns a block answers NULL and sets errno to ENOMEM for sizes that cannot be had:
 * above PTRDIFF_MAX, and so near SIZE_MAX that rounding them up would overflow. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

#define CHECK_REFUSED(call)  \
  do {                       \
    errno = 0;               \
    void* block = (call);    \
    CHECK(block == NULL);    \
    CHECK_EQ(errno, ENOMEM); \
  } while (0)

int main(void) {
  const size_t too_large[] = {
      (size_t)PTRDIFF_MAX,
      (size_t)PTRDIFF_MAX + 1,
      (size_t)PTRDIFF_MAX + 4097,
      SIZE_MAX / 2 + 65536,
      SIZE_MAX - 2 * 1024 * 1024,
      SIZE_MAX - 65536,
      SIZE_MAX - 4096,
      SIZE_MAX - 4095,
      SIZE_MAX - 63,
      SIZE_MAX - 16,
      SIZE_MAX - 8,
      SIZE_MAX - 1,
      SIZE_MAX,
  };
  for (size_t i = 0; i < sizeof too_large / sizeof too_large[0]; ++i) {
    size_t size = opaque_size(too_large[i]);
    CHECK_REFUSED(malloc(size));
    CHECK_REFUSED(calloc(1, size));
    CHECK_REFUSED(calloc(size, 1));
    CHECK_REFUSED(realloc(NULL, size));
    CHECK_REFUSED(memalign(64, size));
    CHECK_REFUSED(memalign(8, size));
    CHECK_REFUSED(memalign(4096, size));
    CHECK_REFUSED(memalign(1 << 20, size));
    CHECK_REFUSED(aligned_alloc(64, size));
    CHECK_REFUSED(aligned_alloc(4096, size));
    CHECK_REFUSED(valloc(size));
    CHECK_REFUSED(pvalloc(size));
    CHECK_REFUSED(reallocarray(NULL, size, 1));
    CHECK_REFUSED(reallocarray(NULL, 1, size));
  }
  return 0;
}
