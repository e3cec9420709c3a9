/* mallinfo2 and mallinfo follow what the program does: bytes in use rise with every block and fall with every
 * free, what is freed is found as free, and the two agree. Memory that is not malloc's is in none of the figures. */
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "check.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* mallinfo: it still has callers */

enum { kBlocks = 1000, kBlockBytes = 10000 };
static void* blocks[kBlocks];

/* Free bytes are a count, not what the process has beyond the blocks. */
static void other_memory_is_not_counted(void) {
  const struct mallinfo2 before = mallinfo2();
  const size_t bytes = 32 << 20;
  char* const mapped =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(mapped != MAP_FAILED);
  memset(mapped, 1, bytes);
  const struct mallinfo2 now = mallinfo2();
  CHECK_EQ(now.arena, before.arena);
  CHECK_EQ(now.fordblks, before.fordblks);
  munmap(mapped, bytes);
}

/* Blocks that are freed are free blocks, and what a trim would give back; then it is given back. */
static void freed_blocks_are_found(const struct mallinfo2* full, const struct mallinfo2* after,
                                   size_t usable) {
  CHECK(after->ordblks >= full->ordblks + kBlocks / 2);
  CHECK(after->fordblks >= full->fordblks + usable);
  CHECK(after->fordblks <= full->fordblks + usable + usable / 8);
  CHECK(after->keepcost >= usable / 2 && after->keepcost <= after->fordblks);
  CHECK(after->arena >= after->fordblks);
  CHECK_EQ(malloc_trim(0), 1);
  CHECK(mallinfo2().keepcost < after->keepcost / 4);
  other_memory_is_not_counted();
}

int main(void) {
  settle();
  const struct mallinfo2 before = mallinfo2();
  size_t usable = 0;
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = malloc(kBlockBytes);
    CHECK(blocks[i] != NULL);
    usable += malloc_usable_size(blocks[i]);
  }
  const struct mallinfo2 full = mallinfo2();
  CHECK(full.uordblks - before.uordblks >= usable);
  if (memlimit_is_loaded()) {
    CHECK_EQ(full.uordblks - before.uordblks, usable);
    CHECK_EQ(full.uordblks, stats_now().heap_alloc);
  }
  CHECK(full.arena + full.hblkhd >= full.uordblks);

  const struct mallinfo narrow = mallinfo();
  CHECK_EQ(narrow.uordblks, full.uordblks);

  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
  const struct mallinfo2 after = mallinfo2();
  CHECK(after.uordblks + usable <= full.uordblks);
  if (memlimit_is_loaded()) {
    CHECK_EQ(after.uordblks, before.uordblks);
    /* Under a limit the service thread purges meanwhile. */
    if (memlimit_get() == 0) freed_blocks_are_found(&full, &after, usable);
  }

  void* large = malloc(opaque_size(64 << 20));
  CHECK(large != NULL);
  const struct mallinfo2 with_large = mallinfo2();
  CHECK(with_large.uordblks + with_large.hblkhd >= after.uordblks + after.hblkhd + (64 << 20));
  if (memlimit_is_loaded()) {
    CHECK_EQ(with_large.hblks, after.hblks + 1);
    CHECK_EQ(with_large.hblkhd, after.hblkhd + malloc_usable_size(large));
  }
  free(large);
  if (memlimit_is_loaded()) CHECK_EQ(mallinfo2().hblks, after.hblks);
  return 0;
}
