/* calloc(n, m) with n * m beyond SIZE_MAX fails with ENOMEM rather than wrap around to a small block. */
#include <stdlib.h>

#include "check.h"

int main(void) {
  const size_t pairs[][2] = {
      {SIZE_MAX, 2},
      {SIZE_MAX / 2 + 1, 2},
      {SIZE_MAX / 16 + 1, 16},
      {(size_t)1 << 32, (size_t)1 << 32},
      {((size_t)1 << 32) + 1, (size_t)1 << 32},
      {SIZE_MAX, SIZE_MAX},
      {3, SIZE_MAX / 2},
  };
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; ++i) {
    for (int swapped = 0; swapped < 2; ++swapped) {
      errno = 0;
      CHECK(calloc(opaque_size(pairs[i][swapped]), opaque_size(pairs[i][1 - swapped])) == NULL);
      CHECK_EQ(errno, ENOMEM);
    }
  }
  void* none = calloc(opaque_size(SIZE_MAX), opaque_size(0)); /* no overflow: zero bytes */
  CHECK(none != NULL);
  free(none);
  return 0;
}
