/* A program that is not position-independent and takes the address of one of mimalloc's functions: what it maps is told from
 * what the allocator maps all the same. */
#include <dlfcn.h>
#include <mimalloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"

enum { kMapped = 1 << 20, kBlocks = 200, kBlockBytes = 1 << 20 };

static void* (*volatile allocator)(size_t);

/* Weak references do not stay references in such a program. */
static int64_t mapped_now(void) {
  static int (*read_stats)(struct memlimit_stats*, size_t);
  if (read_stats == NULL) read_stats = dlsym(RTLD_DEFAULT, "memlimit_read_stats");
  CHECK(read_stats != NULL);
  struct memlimit_stats stats;
  memset(&stats, 0, sizeof stats);
  CHECK_EQ(read_stats(&stats, sizeof stats), 0);
  return stats.mapped;
}

int main(void) {
  allocator = mi_malloc;
  CHECK(allocator != NULL);
  const int64_t before = mapped_now();
  CHECK(mmap(NULL, kMapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
        MAP_FAILED);
  CHECK_EQ(mapped_now() - before, kMapped);
  for (int i = 0; i < kBlocks; ++i) {
    void* volatile block = malloc(kBlockBytes);
    CHECK(block != NULL);
  }
  CHECK_EQ(mapped_now() - before, kMapped);
  return 0;
}
