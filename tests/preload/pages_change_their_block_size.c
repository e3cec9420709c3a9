/* heap_alloc is the sum of malloc_usable_size while pages of the allocator pass from one block size to another:
 * thousands of blocks of each size in turn, in the space that those of the last one left, among them aligned ones
 * that begin inside a page's first block. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

enum { kBlocks = 3000, kRounds = 3, kLargestBytes = 2048 };

static void* blocks[kBlocks];

static int64_t heap(void) { return stats_now().heap_alloc; }

static void fill(size_t size, int64_t before) {
  int64_t sum = 0;
  for (int i = 0; i < kBlocks; ++i) {
    // The first of a page, and now and then one in the midst of it.
    const int aligned = i % 700 == 0;
    blocks[i] = aligned ? memalign(256, size) : i % 2 == 0 ? malloc(size) : calloc(1, size);
    CHECK(blocks[i] != NULL);
    sum += (int64_t)malloc_usable_size(blocks[i]);
    if (i % 64 == 0) CHECK_EQ(heap() - before, sum);
  }
  CHECK_EQ(heap() - before, sum);
}

/* Every second one first, so that pages stay in part. */
static void empty(int64_t before) {
  for (int first = 0; first < 2; ++first) {
    int64_t left = 0;
    for (int i = 0; i < kBlocks; ++i) {
      if (i % 2 == first) {
        free(blocks[i]);
      } else if (first == 0) {
        left += (int64_t)malloc_usable_size(blocks[i]);
      }
    }
    CHECK_EQ(heap() - before, left);
  }
}

int main(void) {
  need_library();
  settle();
  const int64_t before = heap();
  for (int round = 0; round < kRounds; ++round) {
    for (size_t size = 1; size <= kLargestBytes; size += size / 5 + 7) {
      fill(size, before);
      empty(before);
      if (size % 3 == 0) malloc_trim(0);
    }
  }
  return 0;
}
