/* calloc gives zeroes also where a dirty block of the same size was just freed, for every size up to huge, and
 * after realloc had grown into the dirt. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

static void check_zero(const unsigned char* block, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    if (block[i] != 0) finish_saying(1, "byte %zu of %zu is %d", i, size, block[i]);
  }
}

int main(void) {
  for (size_t size = 1; size < (32 << 20); size = size + size / 3 + 1) {
    void* dirty[8];
    for (int i = 0; i < 8; ++i) {
      dirty[i] = malloc(size);
      CHECK(dirty[i] != NULL);
      memset(dirty[i], 0xff, malloc_usable_size(dirty[i]));
      if (size > (4 << 20) && i == 1) { /* two are enough where one is a mapping of its own */
        free(dirty[1]);
        dirty[1] = NULL;
        for (int k = 2; k < 8; ++k) dirty[k] = NULL;
        break;
      }
    }
    for (int i = 0; i < 8; ++i) free(dirty[i]);
    unsigned char* clean = calloc(1, size);
    CHECK(clean != NULL);
    check_zero(clean, size);
    free(clean);
    clean = calloc(size, 1);
    CHECK(clean != NULL);
    check_zero(clean, size);
    free(clean);
  }
  for (int i = 0; i < 20000; ++i) { /* many small ones, to run through whole pages of dirt */
    unsigned char* dirty = malloc(48);
    memset(dirty, 0xff, 48);
    free(dirty);
    unsigned char* clean = calloc(3, 16);
    check_zero(clean, 48);
    if (i % 3 != 0) free(clean);
  }
  return 0;
}
