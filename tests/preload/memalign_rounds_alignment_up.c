/* memalign with an alignment that is not a power of two rounds it up, as glibc does; one above the largest
 * power of two is EINVAL. aligned_alloc is the same function up to glibc 2.37; from 2.38 on it may refuse
 * such alignments with EINVAL instead. Neither asks for a size that is a multiple of the alignment. */
#include <gnu/libc-version.h>
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

static size_t next_power_of_two(size_t n) {
  size_t power = 1;
  while (power < n) power *= 2;
  return power;
}

static int aligned_alloc_may_refuse(void) {
  int major = 0, minor = 0;
  CHECK_EQ(sscanf(gnu_get_libc_version(), "%d.%d", &major, &minor), 2);
  return major > 2 || minor >= 38;
}

int main(void) {
  const size_t alignments[] = {0,  1,  2,  3,  5,   8,    13,   16,   17,    24,    31,
                               32, 33, 48, 64, 100, 1000, 4096, 5000, 65536, 100000};
  for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; ++i) {
    size_t alignment = opaque_size(alignments[i]);
    size_t rounded = next_power_of_two(alignment);
    if (rounded < 16) rounded = 16; /* MALLOC_ALIGNMENT */
    for (size_t size = 1; size < 100000; size = size * 5 + 3) {
      char* block = memalign(alignment, size);
      CHECK(block != NULL);
      if (size >= 16 || alignment > 16) CHECK_EQ((uintptr_t)block % rounded, 0);
      CHECK(malloc_usable_size(block) >= size);
      memset(block, 0x5a, size);
      free(block);

      errno = 0;
      block = aligned_alloc(alignment, size);
      if (block == NULL) {
        CHECK(aligned_alloc_may_refuse() && (alignment & (alignment - 1)) + (alignment == 0) != 0);
        CHECK_EQ(errno, EINVAL);
        continue;
      }
      if (size >= 16 || alignment > 16) CHECK_EQ((uintptr_t)block % rounded, 0);
      memset(block, 0x5a, size);
      free(block);
    }
  }

  const size_t beyond[] = {SIZE_MAX / 2 + 2, SIZE_MAX - 1, SIZE_MAX};
  for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; ++i) {
    errno = 0;
    CHECK(memalign(opaque_size(beyond[i]), opaque_size(16)) == NULL);
    CHECK_EQ(errno, EINVAL);
    errno = 0;
    CHECK(aligned_alloc(opaque_size(beyond[i]), opaque_size(16)) == NULL);
    CHECK_EQ(errno, EINVAL);
  }
  errno = 0; /* a power of two, but no address space has room for it */
  CHECK(memalign(opaque_size(SIZE_MAX / 2 + 1), opaque_size(16)) == NULL);
  CHECK_EQ(errno, ENOMEM);
  return 0;
}
