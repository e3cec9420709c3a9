/* A shared object that allocates as early and as late as one can: its constructor runs before libmemlimit's (it is
 * linked with -z initfirst), its destructor after it. Used by malloc_before_constructors.c. */
#include <malloc.h>
#include <stdlib.h>

#include "early_module.h"

#include "check.h"

static void* blocks[kEarlyBlocks];

__attribute__((constructor)) static void allocate_early(void) {
  for (int i = 0; i < kEarlyBlocks; ++i) {
    const size_t size = (size_t)1 << (i % 22);
    switch (i % 4) {
      case 0:
        blocks[i] = malloc(size);
        break;
      case 1:
        blocks[i] = calloc(1, size);
        break;
      case 2:
        blocks[i] = memalign(256, size);
        break;
      default:
        blocks[i] = realloc(malloc(10), size);
        break;
    }
    CHECK(blocks[i] != NULL);
    memset(blocks[i], i, size);
    if (i % 3 == 0) {
      free(blocks[i]);
      blocks[i] = malloc(size);
      CHECK(blocks[i] != NULL);
      memset(blocks[i], i, size);
    }
  }
}

void* early_block(int index) { return blocks[index]; }

void forget_early_block(int index) { blocks[index] = NULL; }

__attribute__((destructor)) static void free_late(void) {
  for (int i = 0; i < kEarlyBlocks; ++i) {
    unsigned char* block = blocks[i];
    if (block != NULL) CHECK(block[0] == (unsigned char)i);
    free(block);
  }
  for (size_t size = 1; size < (32 << 20); size *= 3) {
    char* block = malloc(size);
    CHECK(block != NULL);
    block[size - 1] = 1;
    block = realloc(block, size * 2);
    CHECK(block != NULL);
    free(block);
  }
  if (memlimit_is_loaded()) {
    const struct memlimit_stats before = stats_now();
    void* block = malloc(12345);
    CHECK_EQ(stats_now().heap_alloc - before.heap_alloc, malloc_usable_size(block));
    free(block);
    CHECK_EQ(stats_now().heap_alloc, before.heap_alloc);
  }
}
