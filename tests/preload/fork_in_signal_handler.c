/* A signal handler that interrupts malloc anywhere forks; the child leaves at once, the parent goes on. Programs do
 * this (glibc keeps it working for single-threaded ones): no lock of ours may be waited for in the fork. With an
 * argument the program reads its statistics meanwhile, which takes locks that malloc does not. */
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "check.h"

enum { kForks = 150, kForksAmidStatistics = 500 };
static volatile sig_atomic_t forks;

/* One shot: where a fork takes longer than the interval, the program must still get on. */
static void arm_timer(void) {
  const struct itimerval once = {{0, 0}, {0, 2000}};
  CHECK_EQ(setitimer(ITIMER_REAL, &once, NULL), 0);
}

static void fork_here(int signal_number) {
  (void)signal_number;
  const int saved_errno = errno;
  const pid_t child = fork();
  if (child == 0) _exit(0);
  CHECK(child > 0);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  ++forks;
  arm_timer();
  errno = saved_errno;
}

static void read_statistics(void) {
  need_library();
  while (forks < kForksAmidStatistics) (void)stats_now();
}

int main(int argc, char** argv) {
  (void)argv;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = fork_here;
  CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
  arm_timer();
  if (argc > 1) read_statistics();
  static void* shelf[4096];
  uint64_t random = 5;
  while (forks < kForks) {
    for (int i = 0; i < 200; ++i) {
      void** place = &shelf[next_random(&random) % 4096];
      free(*place);
      *place = malloc(next_random(&random) % 5000);
      CHECK(*place != NULL);
    }
  }
  const struct itimerval none = {{0, 0}, {0, 0}};
  CHECK_EQ(setitimer(ITIMER_REAL, &none, NULL), 0);
  for (int i = 0; i < 4096; ++i) free(shelf[i]);
  return 0;
}
