/* A process with 8 MiB in use forks again and again, and waits for each child. Prints forks a second, and what a fork takes:
 * CPU time of parent and child, and page faults of either.
 *
 * Usage: fork_rate exit|work|threaded [forks]
 * exit: the child ends at once, by _exit(). work: it allocates 50 blocks, writes to them, frees them and ends by exit().
 * threaded: as exit, in a process that has had a thread: libc's own fork() does more from then on.
 */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kLiveBlocks = 8192, kLiveBytes = 1024, kChildBlocks = 50, kWarmUp = 20 };

static char* live[kLiveBlocks];

static void* must_malloc(size_t size) {
  void* block = malloc(size);
  if (block == NULL) _exit(2);
  return block;
}

static void work(void) {
  char* blocks[kChildBlocks];
  for (size_t i = 0; i < kChildBlocks; ++i) {
    const size_t size = 16 + i * 20;
    blocks[i] = must_malloc(size);
    memset(blocks[i], (int)i, size);
  }
  for (size_t i = 0; i < kChildBlocks; ++i) free(blocks[i]);
}

static void* nothing(void* arg) { return arg; }

static void have_had_a_thread(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
    _exit(2);
}

static void fork_once(int works) {
  const pid_t child = fork();
  if (child == 0) {
    if (!works) _exit(0);
    work();
    exit(0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
    fputs("fork_rate: a child failed\n", stderr);
    exit(1);
  }
}

struct Used {
  double seconds;
  double cpu_us;
  double child_faults;
  double parent_faults;
};

static double microseconds(struct timeval time) {
  return (double)time.tv_sec * 1e6 + (double)time.tv_usec;
}

static struct Used used(void) {
  struct rusage own, children;
  struct timespec now;
  getrusage(RUSAGE_SELF, &own);
  getrusage(RUSAGE_CHILDREN, &children);
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (struct Used){
      .seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9,
      .cpu_us = microseconds(own.ru_utime) + microseconds(own.ru_stime) +
                microseconds(children.ru_utime) + microseconds(children.ru_stime),
      .child_faults = (double)children.ru_minflt,
      .parent_faults = (double)own.ru_minflt,
  };
}

int main(int argc, char** argv) {
  if (argc < 2) {
    fputs("usage: fork_rate exit|work|threaded [forks]\n", stderr);
    return 2;
  }
  const int works = strcmp(argv[1], "work") == 0;
  if (strcmp(argv[1], "threaded") == 0) have_had_a_thread();
  const int forks = argc > 2 ? atoi(argv[2]) : 1000;
  for (size_t i = 0; i < kLiveBlocks; ++i) {
    live[i] = must_malloc(kLiveBytes);
    memset(live[i], 1, kLiveBytes);
  }
  for (int i = 0; i < kWarmUp; ++i) fork_once(works);
  const struct Used before = used();
  for (int i = 0; i < forks; ++i) fork_once(works);
  const struct Used after = used();
  printf("forks_per_s=%.1f cpu_us=%.2f child_faults=%.2f parent_faults=%.2f\n",
         forks / (after.seconds - before.seconds), (after.cpu_us - before.cpu_us) / forks,
         (after.child_faults - before.child_faults) / forks,
         (after.parent_faults - before.parent_faults) / forks);
  for (size_t i = 0; i < kLiveBlocks; ++i) free(live[i]);
  return 0;
}
