/* A program linked with libmimalloc takes blocks from it by its own names, the first of new pages among them: what
 * malloc gives it beside them is counted exactly all the same. */
#include <malloc.h>
#include <mimalloc.h>
#include <stdlib.h>

#include "check.h"

enum {
  kPages = 64,
  kLargestBytes = 1024,
  kPageBytes = 64 << 10,
  kMostBlocks = kPages * kPageBytes / 16
};

static void* own[kMostBlocks];

static int64_t heap(void) { return stats_now().heap_alloc; }

int main(void) {
  need_library();
  settle();
  const int64_t before = heap();
  // Pages that begin as the library expects, so many that it would rely on it.
  for (int i = 0; i < kMostBlocks; ++i) CHECK((own[i] = malloc(16)) != NULL);
  for (int i = 0; i < kMostBlocks; ++i) free(own[i]);
  mi_collect(true);
  for (size_t size = 16; size <= kLargestBytes; size *= 2) {
    // Pages of the last size are free and those of this size are new. Every second block is mimalloc's own.
    const int count = (int)(kPages * kPageBytes / size);
    int64_t counted = 0;
    for (int i = 0; i < count; ++i) {
      own[i] = i % 2 == 0 ? mi_malloc(size) : malloc(size);
      CHECK(own[i] != NULL);
      if (i % 2 != 0) counted += (int64_t)malloc_usable_size(own[i]);
    }
    CHECK_EQ(heap() - before, counted);
    for (int i = 0; i < count; ++i) {
      if (i % 2 == 0) {
        mi_free(own[i]);
      } else {
        free(own[i]);
      }
    }
    mi_collect(true);
    CHECK_EQ(heap() - before, 0);
  }
  return 0;
}
