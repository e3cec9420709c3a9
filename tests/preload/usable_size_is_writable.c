/* malloc_usable_size is at least what was asked for, stays the same while the block lives, and every byte of it
 * belongs to the block: writing all of one block leaves its neighbours unharmed. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

enum { kBlocks = 64 };

int main(void) {
  CHECK_EQ(malloc_usable_size(opaque(NULL)), 0);
  for (size_t size = 0; size < (3 << 20); size = size + size / 4 + 1) {
    const int count = size < 100000 ? kBlocks : 4;
    unsigned char* blocks[kBlocks];
    size_t usable[kBlocks];
    for (int i = 0; i < count; ++i) {
      switch (i % 4) {
        case 0:
          blocks[i] = malloc(size);
          break;
        case 1:
          blocks[i] = calloc(1, size);
          break;
        case 2:
          blocks[i] = memalign((size_t)16 << (i % 9), size);
          break;
        default:
          blocks[i] = realloc(malloc(size / 2), size == 0 ? 1 : size);
          break;
      }
      CHECK(blocks[i] != NULL);
      usable[i] = malloc_usable_size(blocks[i]);
      CHECK(usable[i] >= size);
      memset(blocks[i], i + 1, usable[i]);
    }
    for (int i = 0; i < count; ++i) {
      CHECK_EQ(malloc_usable_size(blocks[i]), usable[i]);
      for (size_t k = 0; k < usable[i]; ++k) CHECK(blocks[i][k] == i + 1);
      free(blocks[i]);
    }
  }
  return 0;
}
