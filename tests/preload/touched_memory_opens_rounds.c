/* Memory that was mapped long ago fills without one call of the library's: the service thread sees it, and hooks are asked
 * before the limit is passed by much. */
#include <sched.h>
#include <sys/mman.h>
#include <time.h>

#include "blocks.h"

enum { kMapped = 512, kPatienceSeconds = 60 };

static char* mapping;
static int64_t touched; /* MiB */
static int64_t asked_at;

/* Gives back all that was touched, as a runtime that collects and shrinks its heap. */
static int64_t reclaim(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  const int64_t held = __atomic_load_n(&touched, __ATOMIC_ACQUIRE);
  int64_t none = 0;
  __atomic_compare_exchange_n(&asked_at, &none, held, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  madvise(mapping, (size_t)(held * kMiB), MADV_DONTNEED);
  return held * kMiB;
}

/* Works, as a program does that fills memory: not faster than this machine's service thread gets to run. */
static void work(void) {
  struct timespec began, now;
  clock_gettime(CLOCK_MONOTONIC, &began);
  do {
    sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - began.tv_sec) * 1000000000LL + now.tv_nsec - began.tv_nsec < 2000000);
}

int main(void) {
  need_library();
  CHECK_EQ(memlimit_get(), 256 * kMiB);
  const struct memlimit_hook hook = {sizeof hook, "heap", MEMLIMIT_ASYNC, reclaim, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  mapping = mmap(NULL, kMapped * (size_t)kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                 -1, 0);
  CHECK(mapping != MAP_FAILED);
  /* One allocation after it, as any program would have, and none from here on. */
  void* block = malloc(1000);
  CHECK(block != NULL);
  __asm__ volatile("" : : "r"(block) : "memory");
  for (int64_t mib = 0; mib < kMapped; ++mib) {
    memset(mapping + mib * kMiB, 1, kMiB);
    __atomic_store_n(&touched, mib + 1, __ATOMIC_RELEASE);
    work();
  }
  struct timespec pause = {0, 10000000};
  for (int i = 0; i < kPatienceSeconds * 100; ++i) {
    if (__atomic_load_n(&asked_at, __ATOMIC_RELAXED) != 0) break;
    nanosleep(&pause, NULL);
  }
  CHECK(asked_at != 0);
  free(block);
  return 0;
}
