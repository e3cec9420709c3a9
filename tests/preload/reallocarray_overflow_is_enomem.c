/* reallocarray fails with ENOMEM when the product overflows, and then leaves the old block as it was. */
#include <stdlib.h>

#include "check.h"

int main(void) {
  char* block = reallocarray(NULL, opaque_size(10), opaque_size(10));
  CHECK(block != NULL);
  memset(block, 'x', 100);

  errno = 0;
  CHECK(reallocarray(block, opaque_size(SIZE_MAX / 2 + 1), opaque_size(2)) == NULL);
  CHECK_EQ(errno, ENOMEM);
  errno = 0;
  CHECK(reallocarray(block, opaque_size((size_t)1 << 33), opaque_size((size_t)1 << 33)) == NULL);
  CHECK_EQ(errno, ENOMEM);
  errno = 0;
  CHECK(reallocarray(block, opaque_size(SIZE_MAX), opaque_size(1)) == NULL);
  CHECK_EQ(errno, ENOMEM);
  for (int i = 0; i < 100; ++i) CHECK(block[i] == 'x');

  char* grown = reallocarray(block, opaque_size(1000), opaque_size(1000));
  CHECK(grown != NULL);
  for (int i = 0; i < 100; ++i) CHECK(grown[i] == 'x');
  CHECK(reallocarray(grown, opaque_size(0), opaque_size(7)) == NULL); /* as realloc(p, 0): freed */
  return 0;
}
