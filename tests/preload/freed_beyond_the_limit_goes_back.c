/* A program that went far beyond its limit, where purges brought nothing, frees all it had and then does nothing: the pages
 * go back to the kernel all the same. */
#include <stdlib.h>

#include "check.h"

enum { kBlocks = 120000, kBlockBytes = 1000, kMiB = 1 << 20 };
static char* blocks[kBlocks];

int main(void) {
  need_library();
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = malloc(kBlockBytes);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], 1, kBlockBytes);
  }
  CHECK(stats_now().heap_alloc > 3 * memlimit_get());
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
  /* Until the runner's guard strikes. */
  while (stats_now().rss_anon > memlimit_get()) usleep(10000);
  return 0;
}
