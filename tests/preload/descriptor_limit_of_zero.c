/* A program that sets its limit of open files to 0 or 1, as sandboxes do, may not even poll() two descriptors: the service
 * thread sleeps all the same, and hears at once when it is wanted; also when the limit is lifted again. */
#include <sys/resource.h>
#include <time.h>

#include "blocks.h"
#include "threads.h"

/* A thread that nobody woke would look by itself after a second: all turns together would take minutes. */
enum { kTurns = 80, kDeadlineSeconds = 60, kLooks = 5 };
static _Atomic int calls;
static int stat_fd = -1;

static int64_t count_call(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  ++calls;
  return 0;
}

static time_t seconds_now(void) {
  struct timespec now;
  CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &now), 0);
  return now.tv_sec;
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
static void wait_until_it_sleeps(time_t deadline) {
  for (int looks = 0; looks < kLooks; sched_yield()) {
    looks = state_in_stat(stat_fd) == 'S' ? looks + 1 : 0;
    if (looks == 0) CHECK(seconds_now() < deadline);
  }
}

static void limit_files_to(rlim_t count) {
  struct rlimit limit;
  CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = count;
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  const time_t deadline = seconds_now() + kDeadlineSeconds;
  for (int turn = 0; turn < kTurns; ++turn) {
    const int before = calls;
    memlimit_reclaim(0);
    CHECK(calls > before);
    wait_until_it_sleeps(deadline);
  }
  CHECK(seconds_now() < deadline);
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
