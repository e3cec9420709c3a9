/* posix_memalign answers with a status and leaves the pointer alone when it fails. Alignments that are not a power of two,
 * or not a multiple of sizeof(void*), are EINVAL, and errno stays as it was; for lack of memory it is ENOMEM (glibc 2.36). */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

int main(void) {
  char mark;
  const size_t bad[] = {
      0, 1, 2, 3, 4, 7, 9, 12, 24, 40, 48, 4095, 4097, SIZE_MAX, SIZE_MAX - 7, 3 * sizeof(void*)};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    void* block = &mark;
    errno = 4711;
    CHECK_EQ(posix_memalign(&block, opaque_size(bad[i]), opaque_size(64)), EINVAL);
    CHECK(block == &mark);
    CHECK_EQ(errno, 4711);
  }

  const size_t too_large[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX - 4096, SIZE_MAX - 64, SIZE_MAX};
  for (size_t i = 0; i < sizeof too_large / sizeof too_large[0]; ++i) {
    for (size_t alignment = sizeof(void*); alignment <= (1 << 22); alignment *= 2) {
      void* block = &mark;
      errno = 4711;
      CHECK_EQ(posix_memalign(&block, alignment, opaque_size(too_large[i])), ENOMEM);
      CHECK(block == &mark);
      CHECK_EQ(errno, ENOMEM);
    }
  }

  for (size_t alignment = sizeof(void*); alignment <= (1 << 16); alignment *= 2) {
    for (size_t size = 0; size < 20000; size = size * 3 + 1) {
      void* block = NULL;
      errno = 4711;
      CHECK_EQ(posix_memalign(&block, alignment, size), 0);
      CHECK_EQ(errno, 4711);
      CHECK(block != NULL);
      CHECK_EQ((uintptr_t)block % alignment, 0);
      CHECK(malloc_usable_size(block) >= size);
      memset(block, 0xa5, size);
      free(block);
    }
  }
  return 0;
}
