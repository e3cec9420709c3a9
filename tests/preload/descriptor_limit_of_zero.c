/* A program that sets its limit of open files to 0 or 1, as sandboxes do, may not even poll() two descriptors: the service
 * thread sleeps all the same, and hears at once when it is wanted; also when the limit is lifted again. */
#include <sys/resource.h>
#include <time.h>

#include "blocks.h"
#include "threads.h"

/* A thread that nobody woke would look by itself after a second, every time: no turn would be a quick one. How many are
 * slow says nothing, where others have the processors. */
enum { kQuickTurns = 10, kQuickMs = 500, kLooks = 5 };
static _Atomic int calls;
static int stat_fd = -1;

static int64_t count_call(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  ++calls;
  return 0;
}

static int64_t now_ms(void) {
  struct timespec now;
  CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &now), 0);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int open_stat_of_service_thread(void) {
  DIR* directory = opendir("/proc/self/task");
  if (directory == NULL) SKIP("no /proc here");
  int fd = -1;
  for (const struct dirent* entry; (entry = readdir(directory)) != NULL;) {
    const int thread_id = atoi(entry->d_name);
    if (thread_id == 0 || thread_id == getpid()) continue;
    fd = open_thread_stat(thread_id);
  }
  closedir(directory);
  return fd;
}

/* Several looks in a row: one that spins may be held up once by something else. */
static void wait_until_it_sleeps(void) {
  for (int looks = 0; looks < kLooks; sched_yield())
    looks = state_in_stat(stat_fd) == 'S' ? looks + 1 : 0;
}

static void limit_files_to(rlim_t count) {
  struct rlimit limit;
  CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = count;
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  for (int quick = 0; quick < kQuickTurns;) {
    wait_until_it_sleeps();
    const int before = calls;
    const int64_t began_ms = now_ms();
    memlimit_reclaim(0);
    CHECK(calls > before);
    if (now_ms() - began_ms < kQuickMs) ++quick;
  }
}

int main(void) {
  need_library();
  const struct memlimit_hook hook = {sizeof hook, "counts", MEMLIMIT_ASYNC, count_call, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  memlimit_reclaim(0);
  stat_fd = open_stat_of_service_thread();
  CHECK(stat_fd >= 0);
  limit_files_to(0);
  limit_files_to(1);
  limit_files_to(256);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
