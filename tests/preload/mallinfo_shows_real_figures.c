/* mallinfo2 and mallinfo follow what the program does: bytes in use rise with every block and fall with every
 * free, and the two agree. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* mallinfo: it still has callers */

enum { kBlocks = 1000, kBlockBytes = 10000 };
static void* blocks[kBlocks];

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
  if (memlimit_is_loaded()) CHECK_EQ(after.uordblks, before.uordblks);

  void* large = malloc(opaque_size(64 << 20));
  CHECK(large != NULL);
  const struct mallinfo2 with_large = mallinfo2();
  CHECK(with_large.uordblks + with_large.hblkhd >= after.uordblks + after.hblkhd + (64 << 20));
  free(large);
  return 0;
}
