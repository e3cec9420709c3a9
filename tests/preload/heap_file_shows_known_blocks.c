/* The socket's file `heap` tells what the program holds: blocks of known sizes are found in their classes and with their
 * threads, the sums are stat's figures, and mallinfo2 and mallctl tell the same. First argument: the socket. */
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "ask_socket.h"

int mallctl(const char* name, void* old, size_t* old_bytes, void* fresh, size_t fresh_bytes);
#pragma weak mallctl

enum { kMaxRows = 512, kNone = -1, kSliceBytes = 64 << 10 };

struct class_row {
  char name[32];
  long long block, live, free, cached, spans, purged, live_bytes;
};

struct thread_row {
  char name[32];
  long long held, cached, live;
};

struct heap_file {
  int classes, threads;
  struct class_row class_rows[kMaxRows];
  struct thread_row thread_rows[kMaxRows];
};

static const char* word(const char* at, char* out, size_t cap) {
  while (*at == ' ') ++at;
  size_t length = 0;
  for (; *at != ' ' && *at != '\n' && *at != '\0'; ++at) {
    CHECK(length < cap - 1);
    out[length++] = *at;
  }
  out[length] = '\0';
  return at;
}

static const char* figure(const char* at, long long* out) {
  char text[32];
  at = word(at, text, sizeof text);
  *out = strcmp(text, "-") == 0 ? kNone : strtoll(text, NULL, 10);
  return at;
}

static void read_heap(struct heap_file* file) {
  memset(file, 0, sizeof *file);
  bool threads = false;
  for (const char* line = ask_socket("heap\n"); *line != '\0'; line = strchr(line, '\n') + 1) {
    if (strncmp(line, "class ", 6) == 0) continue;
    if (strncmp(line, "thread ", 7) == 0) {
      threads = true;
      continue;
    }
    if (threads) {
      CHECK(file->threads < kMaxRows);
      struct thread_row* const row = &file->thread_rows[file->threads++];
      figure(figure(figure(word(line, row->name, sizeof row->name), &row->held), &row->cached),
             &row->live);
      CHECK_EQ(row->held - row->cached, row->live);
    } else {
      CHECK(file->classes < kMaxRows);
      struct class_row* const row = &file->class_rows[file->classes++];
      const char* at = figure(word(line, row->name, sizeof row->name), &row->block);
      long long* const figures[] = {&row->live,  &row->free,   &row->cached,
                                    &row->spans, &row->purged, &row->live_bytes};
      for (size_t i = 0; i < sizeof figures / sizeof figures[0]; ++i) at = figure(at, figures[i]);
      CHECK_EQ(*at, '\n');
    }
  }
  CHECK(file->classes > 50 && file->threads >= 2);
}

static const struct class_row* class_named(const struct heap_file* file, const char* name) {
  for (int i = 0; i < file->classes; ++i) {
    if (strcmp(file->class_rows[i].name, name) == 0) return &file->class_rows[i];
  }
  finish_saying(kFailedStatus, "no row %s in the file heap", name);
}

static const struct class_row* class_of(const struct heap_file* file, void* block) {
  char name[32];
  snprintf(name, sizeof name, "block-%zu", malloc_usable_size(block));
  return class_named(file, name);
}

static const struct thread_row* row_of(const struct heap_file* file, int tid) {
  char name[32];
  snprintf(name, sizeof name, "thread-%d", tid);
  for (int i = 0; i < file->threads; ++i) {
    if (strcmp(file->thread_rows[i].name, name) == 0) return &file->thread_rows[i];
  }
  finish_saying(kFailedStatus, "no row %s in the file heap", name);
}

static size_t jemalloc_figure(const char* name) {
  size_t value = 0, bytes = sizeof value;
  CHECK_EQ(mallctl(name, &value, &bytes, NULL, 0), 0);
  return value;
}

/* Sums over classes and threads are stat's figures, to the byte, and glibc's and jemalloc's reports are made of them. */
static void check_sums(const struct heap_file* file) {
  const struct class_row* const large = class_named(file, "large");
  const struct class_row* const huge = class_named(file, "huge");
  const struct class_row* const slices = class_named(file, "slices");
  long long live = large->live_bytes + huge->live_bytes;
  long long blocks_free = 0, blocks_cached = 0, free_bytes = 0, cached_bytes = 0, spans = 0,
            purged = 0;
  for (int i = 0; i < file->classes; ++i) {
    const struct class_row* const row = &file->class_rows[i];
    if (strncmp(row->name, "block-", 6) != 0) continue;
    CHECK_EQ(row->live_bytes, row->live * row->block);
    live += row->live_bytes;
    blocks_free += row->free;
    blocks_cached += row->cached;
    free_bytes += row->free * row->block;
    cached_bytes += row->cached * row->block;
    spans += row->spans;
    purged += row->purged;
  }
  CHECK_EQ(live, ask_stat("heap_alloc"));
  CHECK_EQ(large->live_bytes, ask_stat("heap_large"));
  CHECK_EQ(huge->live_bytes, ask_stat("heap_huge"));
  CHECK_EQ(free_bytes, ask_stat("heap_free"));
  CHECK_EQ(cached_bytes, ask_stat("heap_cached"));
  CHECK_EQ(spans, ask_stat("heap_spans"));
  CHECK_EQ((spans + large->spans + slices->free) * kSliceBytes, ask_stat("heap_regions"));
  long long of_threads = 0;
  for (int i = 0; i < file->threads; ++i) of_threads += file->thread_rows[i].live;
  CHECK_EQ(of_threads, live);

  const struct mallinfo2 info = mallinfo2();
  CHECK_EQ(info.uordblks, live);
  CHECK_EQ(info.arena, ask_stat("heap_regions"));
  CHECK_EQ(info.hblks, huge->live);
  CHECK(info.hblkhd >= (size_t)huge->live_bytes);
  CHECK_EQ(info.smblks, blocks_cached);
  CHECK_EQ(info.fsmblks, cached_bytes);
  CHECK_EQ(info.ordblks, blocks_free + blocks_cached + slices->free);
  CHECK_EQ(info.fordblks, free_bytes + cached_bytes + slices->free * kSliceBytes);

  CHECK_EQ(jemalloc_figure("stats.allocated"), live);
  CHECK_EQ(jemalloc_figure("stats.active"),
           (spans * 16 - purged) * 4096 + large->live_bytes + huge->live_bytes);
  CHECK_EQ(jemalloc_figure("stats.retained"), slices->purged * 4096);
  CHECK_EQ(jemalloc_figure("stats.mapped"), (spans + large->spans) * kSliceBytes + info.hblkhd);
  CHECK_EQ(jemalloc_figure("stats.metadata"), ask_stat("heap_records"));
}

enum {
  kFirstBlocks = 1000,
  kFirstBytes = 700,
  kSecondBlocks = 500,
  kSecondBytes = 3000,
  kLargeBlocks = 3
};
static void* first_blocks[kFirstBlocks];
static void* second_blocks[kSecondBlocks];
static void* large_blocks[kLargeBlocks];
static void* huge_block;

struct worker {
  void (*work)(void);
  int tid;
};

static pthread_barrier_t step;

/* Before, while it holds its blocks, and after. */
static void* run(void* arg) {
  struct worker* const self = arg;
  self->tid = (int)syscall(SYS_gettid);
  free(opaque(malloc(kFirstBytes))); /* so that it has a row */
  for (int i = 0; i < 2; ++i) pthread_barrier_wait(&step);
  self->work();
  for (int i = 0; i < 2; ++i) pthread_barrier_wait(&step);
  return NULL;
}

static void work_first(void) {
  for (int i = 0; i < kFirstBlocks; ++i) CHECK((first_blocks[i] = malloc(kFirstBytes)) != NULL);
}

static void work_second(void) {
  for (int i = 0; i < kSecondBlocks; ++i) CHECK((second_blocks[i] = malloc(kSecondBytes)) != NULL);
  for (int i = 0; i < kLargeBlocks; ++i) CHECK((large_blocks[i] = malloc(100000)) != NULL);
  CHECK((huge_block = malloc(opaque_size(6 << 20))) != NULL);
}

static struct heap_file before, full, after;

int main(int argc, char** argv) {
  need_library();
  CHECK(argc == 2);
  socket_path = argv[1];
  settle();
  CHECK_EQ(pthread_barrier_init(&step, NULL, 3), 0);
  struct worker workers[] = {{work_first, 0}, {work_second, 0}};
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) CHECK_EQ(pthread_create(&threads[i], NULL, run, &workers[i]), 0);

  pthread_barrier_wait(&step);
  read_heap(&before);
  check_sums(&before);
  pthread_barrier_wait(&step);
  pthread_barrier_wait(&step);
  read_heap(&full);
  check_sums(&full);

  CHECK_EQ(class_of(&full, first_blocks[0])->live - class_of(&before, first_blocks[0])->live,
           kFirstBlocks);
  CHECK_EQ(class_of(&full, second_blocks[0])->live - class_of(&before, second_blocks[0])->live,
           kSecondBlocks);
  CHECK_EQ(class_named(&full, "large")->live - class_named(&before, "large")->live, kLargeBlocks);
  CHECK_EQ(class_named(&full, "large")->live_bytes - class_named(&before, "large")->live_bytes,
           kLargeBlocks * malloc_usable_size(large_blocks[0]));
  CHECK_EQ(class_named(&full, "huge")->live - class_named(&before, "huge")->live, 1);
  CHECK_EQ(class_named(&full, "huge")->live_bytes - class_named(&before, "huge")->live_bytes,
           malloc_usable_size(huge_block));
  CHECK_EQ(row_of(&full, workers[0].tid)->live - row_of(&before, workers[0].tid)->live,
           kFirstBlocks * malloc_usable_size(first_blocks[0]));
  CHECK_EQ(row_of(&full, workers[1].tid)->live - row_of(&before, workers[1].tid)->live,
           kSecondBlocks * malloc_usable_size(second_blocks[0]) +
               kLargeBlocks * malloc_usable_size(large_blocks[0]) + malloc_usable_size(huge_block));

  /* This thread frees what the others allocated: its row tells, theirs stay. */
  for (int i = 0; i < kFirstBlocks; ++i) free(first_blocks[i]);
  read_heap(&after);
  check_sums(&after);
  CHECK_EQ(row_of(&after, workers[0].tid)->live, row_of(&full, workers[0].tid)->live);
  CHECK_EQ(row_of(&full, (int)syscall(SYS_gettid))->live -
               row_of(&after, (int)syscall(SYS_gettid))->live,
           kFirstBlocks * malloc_usable_size(first_blocks[0]));

  pthread_barrier_wait(&step);
  for (int i = 0; i < 2; ++i) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  for (int i = 0; i < kSecondBlocks; ++i) free(second_blocks[i]);
  for (int i = 0; i < kLargeBlocks; ++i) free(large_blocks[i]);
  free(huge_block);
  read_heap(&after);
  check_sums(&after);
  return 0;
}
