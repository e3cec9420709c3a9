/* malloc(0), calloc(0, n) and realloc(NULL, 0) give blocks of their own, each different from all others. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

enum { kBlocks = 300 };

int main(void) {
  void* blocks[kBlocks];
  for (int i = 0; i < kBlocks; ++i) {
    switch (i % 5) {
      case 0:
        blocks[i] = malloc(opaque_size(0));
        break;
      case 1:
        blocks[i] = calloc(opaque_size(0), opaque_size(8));
        break;
      case 2:
        blocks[i] = realloc(NULL, opaque_size(0));
        break;
      case 3:
        blocks[i] = memalign(64, opaque_size(0));
        break;
      default:
        blocks[i] = aligned_alloc(64, opaque_size(0));
        break;
    }
    CHECK(blocks[i] != NULL);
    for (int k = 0; k < i; ++k) CHECK(blocks[k] != blocks[i]);
  }
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
  return 0;
}
