/* Each allocating call moves heap_alloc by malloc_usable_size of the block it gives, each free by that of the block
 * it takes, a realloc by both, for every size class and alignment; a call that fails moves nothing. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

static int64_t heap(void) { return stats_now().heap_alloc; }

#define CHECK_COUNTED(call)                                   \
  do {                                                        \
    const int64_t before_call = heap();                       \
    void* made = (call);                                      \
    CHECK(made != NULL);                                      \
    CHECK_EQ(heap() - before_call, malloc_usable_size(made)); \
    free(made);                                               \
    CHECK_EQ(heap(), before_call);                            \
  } while (0)

#define CHECK_NOT_COUNTED(call)                                \
  do {                                                         \
    const struct memlimit_stats before_call = stats_now();     \
    CHECK((call) == NULL);                                     \
    const struct memlimit_stats after_call = stats_now();      \
    CHECK_EQ(after_call.heap_alloc, before_call.heap_alloc);   \
    CHECK_EQ(after_call.total_alloc, before_call.total_alloc); \
    CHECK_EQ(after_call.total_freed, before_call.total_freed); \
  } while (0)

int main(void) {
  need_library();
  settle();
  for (size_t size = 0; size < (80 << 20); size = size + size / 2 + 1) {
    CHECK_COUNTED(malloc(size));
    CHECK_COUNTED(calloc(1, size));
    CHECK_COUNTED(calloc(size, 1));
    CHECK_COUNTED(realloc(NULL, size));
    CHECK_COUNTED(reallocarray(NULL, size, 1));
    CHECK_COUNTED(valloc(size));
    CHECK_COUNTED(pvalloc(size));
    for (size_t alignment = 1; alignment <= (64 << 20); alignment *= 4) {
      CHECK_COUNTED(memalign(alignment, size));
      CHECK_COUNTED(aligned_alloc(alignment, size));
    }
    for (size_t to = 1; to < (8 << 20); to = to * 3 + 1) {
      const int64_t before = heap();
      for (int aligned = 0; aligned < 2; ++aligned) {
        void* block = aligned ? memalign(1024, size) : malloc(size);
        block = realloc(block, to);
        CHECK(block != NULL);
        CHECK_EQ(heap() - before, malloc_usable_size(block));
        block = realloc(block, malloc_usable_size(block)); /* in place */
        CHECK_EQ(heap() - before, malloc_usable_size(block));
        CHECK(realloc(block, opaque_size(0)) == NULL);
        CHECK_EQ(heap(), before);
      }
    }
  }
  CHECK_NOT_COUNTED(malloc(opaque_size(SIZE_MAX / 2)));
  CHECK_NOT_COUNTED(calloc(opaque_size(SIZE_MAX / 2), opaque_size(4)));
  CHECK_NOT_COUNTED(realloc(NULL, opaque_size(SIZE_MAX / 2)));
  CHECK_NOT_COUNTED(memalign(64, opaque_size(SIZE_MAX / 2)));
  CHECK_NOT_COUNTED(memalign(opaque_size(SIZE_MAX), 10));
  CHECK_NOT_COUNTED(pvalloc(opaque_size(SIZE_MAX - 10)));
  return 0;
}
