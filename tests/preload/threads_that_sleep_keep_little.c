/* Threads that come near the limit, free all they have and then sleep keep next to nothing of it. Only they can
 * give it back, and nobody can make them: so they do it on the way, long after usage is far from the limit. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"

enum { kThreads = 4, kBlocks = 24 << 10, kMiB = 1 << 20 };
static pthread_barrier_t all_there;
static pthread_barrier_t peak_read;
static pthread_barrier_t all_freed;

static void* take_and_free(void* arg) {
  char** const blocks = opaque(malloc(kBlocks * sizeof *blocks));
  uint64_t seed = (uint64_t)(uintptr_t)arg;
  for (int i = 0; i < kBlocks; ++i) {
    const size_t bytes = 256 + next_random(&seed) % 1024;
    blocks[i] = malloc(bytes);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], 1, bytes);
  }
  pthread_barrier_wait(&all_there);
  pthread_barrier_wait(&peak_read);
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
  free(blocks);
  pthread_barrier_wait(&all_freed);
  for (;;) pause();
  return NULL;
}

int main(void) {
  need_library();
  CHECK_EQ(pthread_barrier_init(&all_there, NULL, kThreads + 1), 0);
  CHECK_EQ(pthread_barrier_init(&peak_read, NULL, kThreads + 1), 0);
  CHECK_EQ(pthread_barrier_init(&all_freed, NULL, kThreads + 1), 0);
  for (uintptr_t i = 1; i <= kThreads; ++i) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, take_and_free, (void*)i), 0);
  }
  pthread_barrier_wait(&all_there);
  const int64_t peak = stats_now().heap_alloc;
  CHECK(peak > 64 * kMiB && peak < memlimit_get());
  pthread_barrier_wait(&peak_read);
  pthread_barrier_wait(&all_freed);
  memlimit_reclaim(0);
  const int64_t left = stats_now().rss_anon;
  if (left > peak / 8)
    finish_saying(1, "%lld bytes at the peak, %lld left", (long long)peak, (long long)left);
  return 0;
}
