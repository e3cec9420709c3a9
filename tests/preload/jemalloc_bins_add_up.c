/* What jemalloc tells of an arena, its bins and a thread are the heap's own figures: they add up to what is allocated, and
 * follow what the program does, from one epoch to the next. */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "jemalloc.h"

enum { kBlocks = 3000, kBlockBytes = 700, kLargeBytes = 100000, kPageBytes = 4096 };
static void* blocks[kBlocks];

static size_t arena_figure(const char* format, unsigned bin) {
  char name[80];
  snprintf(name, sizeof name, format, bin);
  return MALLCTL_READ(size_t, name);
}

static uint64_t arena_count(const char* format, unsigned bin) {
  char name[80];
  snprintf(name, sizeof name, format, bin);
  return MALLCTL_READ(uint64_t, name);
}

static unsigned bin_of(size_t bytes) {
  unsigned bin = 0;
  while (arena_figure("arenas.bin.%u.size", bin) < bytes) ++bin;
  return bin;
}

static void bins_add_up(void) {
  begin_epoch();
  size_t small = 0;
  for (unsigned bin = 0; bin < MALLCTL_READ(unsigned, "arenas.nbins"); ++bin) {
    const size_t used = arena_figure("stats.arenas.4096.bins.%u.curregs", bin);
    char name[64];
    snprintf(name, sizeof name, "arenas.bin.%u.nregs", bin);
    const size_t room =
        MALLCTL_READ(uint32_t, name) * arena_figure("stats.arenas.4096.bins.%u.curslabs", bin);
    CHECK(used <= room);
    CHECK_EQ(arena_count("stats.arenas.0.bins.%u.nmalloc", bin) -
                 arena_count("stats.arenas.0.bins.%u.ndalloc", bin),
             used);
    small += used * arena_figure("arenas.bin.%u.size", bin);
  }
  CHECK_EQ(small, MALLCTL_READ(size_t, "stats.arenas.0.small.allocated"));
  CHECK_EQ(small + MALLCTL_READ(size_t, "stats.arenas.0.large.allocated"),
           MALLCTL_READ(size_t, "stats.allocated"));
  CHECK(MALLCTL_READ(size_t, "stats.arenas.0.pactive") * kPageBytes >=
        MALLCTL_READ(size_t, "stats.allocated"));
}

static void bins_follow_the_program(void) {
  const unsigned bin = bin_of(kBlockBytes);
  begin_epoch();
  const size_t before = arena_figure("stats.arenas.0.bins.%u.curregs", bin);
  const size_t large_before = MALLCTL_READ(size_t, "stats.arenas.0.large.allocated");
  const uint64_t requests = arena_count("stats.arenas.0.bins.%u.nrequests", bin);
  for (int i = 0; i < kBlocks; ++i) CHECK((blocks[i] = malloc(kBlockBytes)) != NULL);
  void* const large = malloc(kLargeBytes);
  CHECK(large != NULL);
  CHECK_EQ(arena_figure("stats.arenas.0.bins.%u.curregs", bin), before); /* as of the epoch */
  begin_epoch();
  CHECK_EQ(arena_figure("stats.arenas.0.bins.%u.curregs", bin), before + kBlocks);
  CHECK_EQ(arena_count("stats.arenas.0.bins.%u.nrequests", bin), requests + kBlocks);
  CHECK_EQ(MALLCTL_READ(size_t, "stats.arenas.0.large.allocated"),
           large_before + malloc_usable_size(large));
  bins_add_up();
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
  free(large);
  begin_epoch();
  CHECK_EQ(arena_figure("stats.arenas.0.bins.%u.curregs", bin), before);
  bins_add_up();
}

/* What Redis calls fragmentation: places in slabs less blocks in use. */
static void purged_pages_are_no_fragmentation(void) {
  const unsigned bin = bin_of(kBlockBytes);
  for (int i = 0; i < kBlocks; ++i) {
    CHECK((blocks[i] = malloc(kBlockBytes)) != NULL);
    memset(blocks[i], 1, kBlockBytes);
  }
  begin_epoch();
  const size_t slabs = arena_figure("stats.arenas.0.bins.%u.curslabs", bin);
  for (int i = 0; i < kBlocks; ++i) {
    if (i % 40 != 0) free(blocks[i]);
  }
  CHECK_EQ(mallctl("arena.0.purge", NULL, NULL, NULL, 0), 0);
  begin_epoch();
  CHECK(arena_figure("stats.arenas.0.bins.%u.curslabs", bin) < slabs / 2);
  bins_add_up();
  for (int i = 0; i < kBlocks; i += 40) free(blocks[i]);
}

static void* thread_counts_its_own(void* foreign) {
  const uint64_t allocated = MALLCTL_READ(uint64_t, "thread.allocated");
  const uint64_t freed = MALLCTL_READ(uint64_t, "thread.deallocated");
  CHECK(allocated < kLargeBytes); /* what the C library has taken for the thread */
  const size_t foreign_bytes = malloc_usable_size(foreign);
  void* const small = malloc(kBlockBytes);
  void* const large = malloc(kLargeBytes);
  const size_t bytes = malloc_usable_size(small) + malloc_usable_size(large);
  CHECK_EQ(MALLCTL_READ(uint64_t, "thread.allocated"), allocated + bytes);
  CHECK_EQ(MALLCTL_READ(uint64_t, "thread.deallocated"), freed);
  free(small);
  free(large);
  free(foreign);
  CHECK_EQ(MALLCTL_READ(uint64_t, "thread.allocated"), allocated + bytes);
  CHECK_EQ(MALLCTL_READ(uint64_t, "thread.deallocated"), freed + bytes + foreign_bytes);
  return NULL;
}

int main(void) {
  need_library();
  settle();
  bins_add_up();
  bins_follow_the_program();
  purged_pages_are_no_fragmentation();
  for (int turn = 0; turn < 3; ++turn) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, thread_counts_its_own, malloc(kLargeBytes)), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
  }
  return 0;
}
