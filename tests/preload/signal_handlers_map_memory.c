/* A signal handler that interrupts malloc anywhere maps memory, enough for a look at the limit: nothing of ours is
 * waited for there, and nothing happens there that needs a heap - no hook runs, no thread is started, the heap is not
 * collected. It happens at the next allocation, however small. */
#include <dirent.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#include "check.h"

enum { kBlocks = 20000, kSeconds = 3 };
static const size_t kMappedBytes = 2 << 20;

static volatile sig_atomic_t in_handler;
static _Atomic int hook_calls, hook_calls_in_handler;
static volatile int ended;

static int64_t inline_hook(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  ++hook_calls;
  if (in_handler) ++hook_calls_in_handler;
  return 0;
}

static int thread_count(void) {
  int count = 0;
  DIR* const tasks = opendir("/proc/self/task");
  CHECK(tasks != NULL);
  while (readdir(tasks) != NULL) ++count;
  closedir(tasks);
  return count - 2;
}

static void* map(size_t bytes) {
  void* const place = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(place != MAP_FAILED);
  return place;
}

/* Past the limit: 64 MiB, of which the footprint is held. */
static void map_past_the_limit(int signal_number) {
  (void)signal_number;
  in_handler = 1;
  for (int i = 0; i < 40; ++i) memset(map(kMappedBytes), 1, kMappedBytes);
  map(kMappedBytes);
  in_handler = 0;
}

static void first_look(void) {
  const struct memlimit_hook hook = {sizeof hook, "inline", MEMLIMIT_INLINE, inline_hook, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  CHECK_EQ(thread_count(), 1);
  signal(SIGUSR1, map_past_the_limit);
  CHECK_EQ(raise(SIGUSR1), 0);
  CHECK_EQ(hook_calls_in_handler, 0);
  CHECK_EQ(hook_calls, 0);
  char* const block = opaque(malloc(1));
  CHECK(hook_calls > 0);
  free(block);
  CHECK_EQ(thread_count(), 2);
  CHECK_EQ(memlimit_hook_remove(id), 0);
}

/* One shot: where a handler takes longer than the interval, the program must still get on. */
static void arm_timer(void) {
  const struct itimerval once = {{0, 0}, {0, 200}};
  CHECK_EQ(setitimer(ITIMER_REAL, &once, NULL), 0);
}

static void map_and_unmap(int signal_number) {
  (void)signal_number;
  const int saved_errno = errno;
  CHECK_EQ(munmap(map(kMappedBytes), kMappedBytes), 0);
  if (!ended) arm_timer();
  errno = saved_errno;
}

static void* trim(void* argument) {
  while (!ended) {
    malloc_trim(0);
    usleep(300);
  }
  return argument;
}

/* Usage swings over the limit and back, and what is in the blocks stays. */
static void churn(void) {
  static unsigned char* blocks[kBlocks];
  uint64_t random = 7;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const time_t end = now.tv_sec + kSeconds;
  for (int turn = 0; now.tv_sec <= end; ++turn) {
    const int live = turn % 2 == 0 ? kBlocks : kBlocks / 60;
    for (int i = 0; i < kBlocks; ++i) {
      if (blocks[i] != NULL) CHECK_EQ(*blocks[i], (unsigned char)i);
      free(blocks[i]);
      blocks[i] = NULL;
      if (i >= live) continue;
      blocks[i] = malloc(16 + next_random(&random) % (turn % 2 == 0 ? 3000 : 60000));
      CHECK(blocks[i] != NULL);
      *blocks[i] = (unsigned char)i;
      if (i % 256 == 0) stats_now();
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
  }
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
}

int main(void) {
  need_library();
  first_look();
  signal(SIGALRM, map_and_unmap);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, &alarm_only, NULL), 0);
  pthread_t trimmer;
  CHECK_EQ(pthread_create(&trimmer, NULL, trim, NULL), 0);
  CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL), 0);
  arm_timer();
  churn();
  ended = 1;
  CHECK_EQ(pthread_join(trimmer, NULL), 0);
  return 0;
}
