/* A signal handler forks in the middle of its own thread's fork: what that one holds, the handler's must not wait for.
 * Of the children that it makes there every other one returns into the fork that was interrupted, and goes on with it. glibc's
 * malloc/tst-mallocfork2 does as much. */
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "check.h"

enum { kForks = 300 };
static pid_t main_pid;
static volatile sig_atomic_t forks_in_handler;
static volatile sig_atomic_t inside_fork; /* the main thread is */

/* Once for each fork of the main thread: fork begins anew after a signal, so a timer that goes on where a fork takes
 * longer than its interval would never let one end. */
static void arm_timer(int turn) {
  const struct itimerval once = {{0, 0}, {0, 1 + turn * 37 % 300}};
  CHECK_EQ(setitimer(ITIMER_REAL, &once, NULL), 0);
}

static void leave(void) {
  for (size_t i = 1; i <= 100; ++i) free(malloc(i * 100));
  _exit(0);
}

static void reap(pid_t child) {
  int status = 0;
  pid_t reaped;
  do {
    reaped = waitpid(child, &status, 0);
  } while (reaped < 0 && errno == EINTR);
  CHECK_EQ(reaped, child);
  CHECK_EQ(status, 0);
}

static void fork_here(int signal_number) {
  (void)signal_number;
  const int saved_errno = errno;
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0 && (!inside_fork || forks_in_handler % 2 == 0)) leave();
  if (child > 0) {
    reap(child);
    ++forks_in_handler;
  }
  errno = saved_errno;
}

int main(void) {
  main_pid = getpid();
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = fork_here;
  action.sa_flags = SA_RESTART;
  CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
  for (int i = 0; i < kForks || forks_in_handler < kForks; ++i) {
    arm_timer(i);
    inside_fork = 1;
    const pid_t child = fork();
    inside_fork = 0;
    if (getpid() != main_pid) {
      // Also a child of the handler's, back in the fork that it interrupted; that one's child may be its parent's.
      if (child > 0) (void)waitpid(child, NULL, 0);
      leave();
    }
    CHECK(child > 0);
    reap(child);
  }
  const struct itimerval none = {{0, 0}, {0, 0}};
  CHECK_EQ(setitimer(ITIMER_REAL, &none, NULL), 0);
  return 0;
}
