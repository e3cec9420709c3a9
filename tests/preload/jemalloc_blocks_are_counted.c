/* jemalloc's own functions for blocks give and take what malloc and free do: counted to the byte, aligned, zeroed where
 * that is asked for, and freed by either. */
#include <malloc.h>
#include <stdlib.h>

#include "jemalloc.h"

enum { kZero = 0x40 };
#define LG_ALIGN(lg) ((int)(lg))
#define CACHE(number) ((int)((number) + 2) << 8)
#define ARENA(number) ((int)((number) + 1) << 20)

static const size_t kSizes[] = {1,     16,    100,   1000,   1024,    1025,
                                20000, 32768, 32769, 100000, 1 << 20, (size_t)5 << 20};
enum { kSizeCount = sizeof kSizes / sizeof *kSizes };

static int64_t live(void) { return stats_now().heap_alloc; }

static void check_zero(const char* block, size_t from, size_t to) {
  for (size_t i = from; i < to; ++i) CHECK_EQ(block[i], 0);
}

static void blocks_have_size_and_alignment(void) {
  for (int i = 0; i < kSizeCount; ++i) {
    for (int lg = 0; lg <= 23; ++lg) {
      const int flags = LG_ALIGN(lg) | (i % 2 == 0 ? kZero : 0) | CACHE(i - 1) | ARENA(lg);
      const int64_t before = live();
      char* const block = (char*)mallocx(kSizes[i], flags);
      CHECK(block != NULL);
      CHECK_EQ((uintptr_t)block & (((uintptr_t)1 << lg) - 1), 0);
      const size_t bytes = sallocx(block, flags);
      CHECK(bytes >= kSizes[i]);
      CHECK_EQ(bytes, malloc_usable_size(block));
      CHECK_EQ(bytes, nallocx(kSizes[i], flags));
      CHECK_EQ(live() - before, bytes);
      if (flags & kZero) check_zero(block, 0, bytes);
      memset(block, 0xa5, bytes);
      if (i % 3 == 0) dallocx(block, flags);
      if (i % 3 == 1) sdallocx(block, kSizes[i], flags);
      if (i % 3 == 2) free(block);
      CHECK_EQ(live(), before);
    }
  }
}

static void growing_blocks_keep_what_they_have(void) {
  for (int lg = 0; lg <= 21; lg += 3) {
    const int flags = LG_ALIGN(lg) | kZero;
    const int64_t before = live();
    char* block = (char*)mallocx(kSizes[0], flags);
    CHECK(block != NULL);
    for (int i = 1; i < kSizeCount; ++i) {
      const size_t had = sallocx(block, 0);
      memset(block, i, had);
      block = (char*)rallocx(block, kSizes[i], flags);
      CHECK(block != NULL);
      CHECK_EQ((uintptr_t)block & (((uintptr_t)1 << lg) - 1), 0);
      const size_t bytes = sallocx(block, 0);
      CHECK(bytes >= kSizes[i]);
      for (size_t at = 0; at < had && at < kSizes[i]; ++at) CHECK_EQ(block[at], i);
      check_zero(block, had, bytes);
      CHECK_EQ(live() - before, bytes);
    }
    for (int i = kSizeCount - 1; i >= 0; --i) {
      block[0] = 77;
      block = (char*)rallocx(block, kSizes[i], LG_ALIGN(lg));
      CHECK(block != NULL);
      CHECK_EQ((uintptr_t)block & (((uintptr_t)1 << lg) - 1), 0);
      CHECK_EQ(block[0], 77);
      CHECK_EQ(live() - before, sallocx(block, 0));
    }
    free(block);
    CHECK_EQ(live(), before);
  }
}

static void realloc_takes_a_block_with_a_new_alignment(void) {
  for (int turn = 0; turn < 20; ++turn) {
    char* block = (char*)malloc(3000);
    CHECK(block != NULL);
    block[2999] = 5;
    block = (char*)rallocx(block, 3000, LG_ALIGN(14));
    CHECK_EQ((uintptr_t)block & 16383, 0);
    CHECK_EQ(block[2999], 5);
    block = (char*)realloc(block, 200000);
    CHECK_EQ(block[2999], 5);
    dallocx(block, 0);
  }
}

static void blocks_grow_where_they_are(void) {
  const int64_t before = live();
  for (int i = 0; i < kSizeCount; ++i) {
    char* const block = (char*)mallocx(kSizes[i], 0);
    const size_t had = sallocx(block, 0);
    memset(block, 1, had);
    const size_t bytes = xallocx(block, had + 1, 70000, kZero);
    CHECK(bytes >= had);
    CHECK_EQ(bytes, sallocx(block, 0));
    CHECK_EQ(live() - before, bytes);
    check_zero(block, had, bytes);
    CHECK_EQ(block[had - 1], 1);
    CHECK_EQ(xallocx(block, bytes, 0, 0), bytes);
    CHECK_EQ(xallocx(block, SIZE_MAX / 2, 0, 0), bytes);
    CHECK_EQ(xallocx(block, bytes, SIZE_MAX - bytes, 0), bytes);
    free(block);
  }
  CHECK_EQ(live(), before);
  /* Nothing lies behind it: it grows, and gives back again. */
  char* const block = (char*)mallocx(100000, 0);
  const size_t grown = xallocx(block, 150000, 50000, 0);
  CHECK(grown >= 100000);
  CHECK(xallocx(block, 50000, 0, 0) <= 53248);
  CHECK_EQ(live() - before, sallocx(block, 0));
  free(block);
}

static void what_cannot_be_is_refused(void) {
  const int64_t before = live();
  CHECK(mallocx(opaque_size(SIZE_MAX - 100), 0) == NULL);
  CHECK(mallocx(opaque_size(SIZE_MAX / 2), LG_ALIGN(12)) == NULL);
  CHECK(mallocx(1, LG_ALIGN(63)) == NULL);
  CHECK_EQ(nallocx(1, LG_ALIGN(63)), 0);
  CHECK_EQ(nallocx(SIZE_MAX, 0), 0);
  char* const block = (char*)mallocx(100000, 0);
  block[99999] = 3;
  for (int shift = 48; shift < 64; ++shift)
    CHECK(rallocx(block, opaque_size((size_t)1 << shift), 0) == NULL);
  CHECK_EQ(block[99999], 3);
  sdallocx(block, 100000, 0);
  CHECK_EQ(live(), before);
}

static char message[4096];

static void note(void* arg, const char* text) {
  CHECK(arg == message);
  CHECK(strlen(message) + strlen(text) < sizeof message);
  strcat(message, text);
}

static void reports_go_where_messages_go(void) {
  CHECK(&malloc_message != NULL);
  CHECK(malloc_message == NULL);
  malloc_message = note;
  malloc_stats_print(NULL, message, NULL);
  CHECK(strstr(message, "allocated: ") != NULL);
}

int main(void) {
  need_library();
  settle();
  blocks_have_size_and_alignment();
  growing_blocks_keep_what_they_have();
  realloc_takes_a_block_with_a_new_alignment();
  blocks_grow_where_they_are();
  what_cannot_be_is_refused();
  reports_go_where_messages_go();
  return 0;
}
