/* A purge gives back what is idle beside blocks that live: a few of them, spread over all that the program
 * had, do not keep the rest. Their content stays, also that of blocks which the allocator keeps apart: large,
 * huge, and aligned to more than anything; and what was dropped can be used again. */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

enum { kBlocks = 96000, kBlockBytes = 1000, kKeptEvery = 4000, kSpecials = 24 };
static unsigned char* blocks[kBlocks];
static unsigned char* specials[kSpecials];
static size_t special_bytes[kSpecials];

static unsigned char mark(int i) { return (unsigned char)(i * 7 + 1); }

static void make_specials(void) {
  for (int i = 0; i < kSpecials; ++i) {
    special_bytes[i] = (size_t)3000 << (i % 12);
    if (i % 3 == 0) special_bytes[i] = (size_t)20 << 20;
    const size_t alignment = (size_t)4096 << (i % 15); /* to 64 MiB */
    CHECK_EQ(posix_memalign((void**)&specials[i], alignment, special_bytes[i]), 0);
    specials[i][0] = specials[i][special_bytes[i] - 1] = specials[i][special_bytes[i] / 2] =
        mark(i);
  }
}

static void check_specials(void) {
  for (int i = 0; i < kSpecials; ++i) {
    CHECK_EQ(specials[i][0], mark(i));
    CHECK_EQ(specials[i][special_bytes[i] / 2], mark(i));
    CHECK_EQ(specials[i][special_bytes[i] - 1], mark(i));
  }
}

static void fill(void) {
  for (int i = 0; i < kBlocks; ++i) {
    if (blocks[i] != NULL) continue;
    blocks[i] = malloc(kBlockBytes);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], mark(i), kBlockBytes);
  }
}

static void drop_most(void) {
  for (int i = 0; i < kBlocks; ++i) {
    if (i % kKeptEvery == 0) continue;
    free(blocks[i]);
    blocks[i] = NULL;
  }
}

static void check_kept(void) {
  for (int i = 0; i < kBlocks; i += kKeptEvery) {
    for (int at = 0; at < kBlockBytes; ++at) CHECK_EQ(blocks[i][at], mark(i));
  }
}

static void* cycle(void* arg) {
  (void)arg;
  make_specials();
  for (int round = 0; round < 3; ++round) {
    fill();
    const int64_t full = stats_now().rss_anon;
    drop_most();
    malloc_trim(0);
    const int64_t left = stats_now().rss_anon;
    check_kept();
    check_specials();
    if (full - left < (int64_t)kBlocks * kBlockBytes / 2)
      finish_saying(1, "round %d: %lld bytes before, %lld after", round, (long long)full,
                    (long long)left);
  }
  for (int i = 0; i < kSpecials; ++i) free(specials[i]);
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
  memset(blocks, 0, sizeof blocks);
  return NULL;
}

int main(void) {
  need_library();
  cycle(NULL);
  /* On another thread: it has a heap of its own, which the next one may inherit pages of. */
  for (int i = 0; i < 2; ++i) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, cycle, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
  }
  return 0;
}
