/* Under a storm of timer signals allocation goes on, errno stays the program's, and a read that the program waits in is
 * interrupted as it would be without the library: signals are delivered to the program's threads, never to ours. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "check.h"

static volatile sig_atomic_t alarms;
static volatile sig_atomic_t foreign_thread;

static void on_alarm(int signal_number) {
  (void)signal_number;
  ++alarms;
  if (syscall(SYS_gettid) != getpid()) foreign_thread = 1;
}

static void set_timer(long microseconds) {
  const struct itimerval interval = {{0, microseconds}, {0, microseconds}};
  CHECK_EQ(setitimer(ITIMER_REAL, &interval, NULL), 0);
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm; /* without SA_RESTART: a wait ends with EINTR */
  CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
  set_timer(1000);
  static void* shelf[2000];
  uint64_t random = 3;
  while (alarms < 200) {
    for (int i = 0; i < 100; ++i) {
      void** place = &shelf[next_random(&random) % 2000];
      errno = 4711;
      free(*place);
      CHECK_EQ(errno == EINTR, 0);
      *place = malloc(next_random(&random) % 20000);
      CHECK(*place != NULL);
    }
  }
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  char byte;
  errno = 0;
  CHECK_EQ(read(ends[0], &byte, 1), -1);
  CHECK_EQ(errno, EINTR);
  set_timer(0);
  CHECK_EQ(foreign_thread, 0);

  /* Blocked in the one thread there is, a signal sent to the process stays pending. */
  sigset_t set, pending;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGTERM);
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
  CHECK_EQ(kill(getpid(), SIGTERM), 0);
  CHECK_EQ(kill(getpid(), SIGUSR1), 0);
  for (int i = 0; i < 2000; ++i) free(shelf[i]);
  for (int i = 0; i < 100; ++i) free(malloc(opaque_size(1 << 20)));
  CHECK_EQ(sigpending(&pending), 0);
  CHECK(sigismember(&pending, SIGTERM) == 1 && sigismember(&pending, SIGUSR1) == 1);
  int received = 0;
  CHECK_EQ(sigwait(&set, &received), 0);
  CHECK(received == SIGTERM || received == SIGUSR1);
  CHECK_EQ(sigwait(&set, &received), 0);
  return 0;
}
