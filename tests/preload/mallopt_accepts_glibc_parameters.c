/* mallopt answers 1 ("success") to the parameters that glibc documents, so that programs that check it run on;
 * and malloc still works afterwards. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

int main(void) {
  CHECK_EQ(mallopt(M_MMAP_THRESHOLD, 128 * 1024), 1);
  CHECK_EQ(mallopt(M_TRIM_THRESHOLD, 128 * 1024), 1);
  CHECK_EQ(mallopt(M_TOP_PAD, 0), 1);
  CHECK_EQ(mallopt(M_MMAP_MAX, 65536), 1);
  CHECK_EQ(mallopt(M_ARENA_MAX, 2), 1);
  CHECK_EQ(mallopt(M_ARENA_TEST, 2), 1);
  CHECK_EQ(mallopt(M_MXFAST, 64), 1);
  CHECK_EQ(mallopt(M_CHECK_ACTION, 3), 1);
  for (size_t size = 1; size < (8 << 20); size *= 3) {
    char* block = malloc(size);
    CHECK(block != NULL);
    block[size - 1] = 1;
    free(block);
  }
  return 0;
}
