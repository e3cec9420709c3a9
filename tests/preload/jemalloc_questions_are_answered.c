/* A program that asks jemalloc about its heap is told about the heap it has: figures, purges, block sizes. */
#include <malloc.h>
#include <stdlib.h>

#include "jemalloc.h"

enum { kBlocks = 4000, kBlockBytes = 8000 };
static void* blocks[kBlocks];

static size_t figure(const char* name) { return MALLCTL_READ(size_t, name); }

static size_t allocated(void) {
  uint64_t epoch = 1;
  size_t bytes = sizeof epoch;
  CHECK_EQ(mallctl("epoch", &epoch, &bytes, &epoch, bytes), 0);
  return figure("stats.allocated");
}

static char report[2048];

enum { kPage = 4096 };

static void append(void* arg, const char* text) {
  CHECK(arg == report);
  CHECK(strlen(report) + strlen(text) < sizeof report);
  strcat(report, text);
}

static void figures_follow_the_heap(void) {
  const size_t before = allocated(), active_before = figure("stats.active");
  const bool limited = memlimit_get() > 0; /* then the service thread purges meanwhile */
  size_t usable = 0;
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = malloc(kBlockBytes);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], 1, kBlockBytes);
    usable += malloc_usable_size(blocks[i]);
  }
  const size_t full = allocated();
  CHECK_EQ(full - before, usable);
  CHECK_EQ(full, stats_now().heap_alloc);
  const size_t active = figure("stats.active");
  CHECK(active >= full && active % kPage == 0);
  CHECK(active <= active_before + usable + (1 << 20));
  CHECK(limited || figure("stats.resident") >= active);
  CHECK(limited || figure("stats.mapped") >= active);
  CHECK(figure("stats.metadata") > 0);

  /* Each page has a free block beside it: they stay active until they are purged. */
  for (int i = 0; i < kBlocks; i += 2) free(blocks[i]);
  CHECK(limited || figure("stats.active") >= allocated() + usable / 3);
  CHECK_EQ(mallctl("arena.0.purge", NULL, NULL, NULL, 0), 0);
  CHECK(limited || figure("stats.active") < allocated() + usable / 8);

  for (int i = 1; i < kBlocks; i += 2) free(blocks[i]);
  CHECK_EQ(allocated(), before);
  const int64_t purges = stats_now().purges;
  unsigned arenas = 0;
  size_t bytes = sizeof arenas;
  CHECK_EQ(mallctl("arenas.narenas", &arenas, &bytes, NULL, 0), 0);
  char name[64];
  snprintf(name, sizeof name, "arena.%u.purge", arenas);
  CHECK_EQ(mallctl(name, NULL, NULL, NULL, 0), 0);
  CHECK(stats_now().purges > purges);
  CHECK(figure("stats.resident") < full);
  CHECK(limited || figure("stats.retained") > 0);
}

static void requests_are_checked(void) {
  uint32_t half = 0;
  size_t bytes = sizeof half;
  CHECK_EQ(mallctl("stats.allocated", &half, &bytes, NULL, 0), EINVAL);
  CHECK_EQ(bytes, sizeof half);
  size_t value = 5;
  CHECK_EQ(mallctl("stats.allocated", NULL, NULL, &value, sizeof value), EPERM);
  CHECK_EQ(mallctl("arena.0.purge", NULL, NULL, &value, sizeof value), EPERM);
  bytes = sizeof value;
  errno = 0;
  CHECK_EQ(mallctl("stats.arenas.0.no_such_thing", &value, &bytes, NULL, 0), ENOENT);
  CHECK_EQ(mallctl("no.such.thing", &value, &bytes, NULL, 0), ENOENT);
  CHECK_EQ(mallctl("arena..purge", NULL, NULL, NULL, 0), ENOENT);
  CHECK_EQ(errno, 0);
  bool on = true, was = true;
  bytes = sizeof was;
  CHECK_EQ(mallctl("background_thread", &was, &bytes, &on, sizeof on), 0);
  CHECK(!was);
  CHECK_EQ(mallctl("background_thread", &was, &bytes, NULL, 0), 0);
  CHECK(was);
}

static void sizes_are_those_of_blocks(void) {
  for (size_t bytes = 1; bytes < (size_t)4 << 20; bytes += bytes / 7 + 1) {
    void* const block = malloc(bytes);
    CHECK(block != NULL);
    CHECK_EQ(nallocx(bytes, 0), malloc_usable_size(block));
    free(block);
  }
  CHECK(nallocx(100, 8) >= 256);
  CHECK_EQ(nallocx(SIZE_MAX - 10, 0), 0);
}

static void reports_are_written(void) {
  char needle[64];
  malloc_stats_print(append, report, NULL);
  snprintf(needle, sizeof needle, "allocated: %zu,", figure("stats.allocated"));
  CHECK(strstr(report, needle) != NULL);
  report[0] = '\0';
  malloc_stats_print(append, report, "gJ");
  snprintf(needle, sizeof needle, "\"allocated\":%zu,", figure("stats.allocated"));
  CHECK(report[0] == '{' && strstr(report, needle) != NULL);
}

int main(void) {
  need_library();
  settle();
  figures_follow_the_heap();
  requests_are_checked();
  sizes_are_those_of_blocks();
  reports_are_written();
  return 0;
}
