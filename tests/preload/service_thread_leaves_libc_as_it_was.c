/* libc knows whether it has made a thread: fork() and C++'s shared pointers then do more. When the service thread has stepped
 * aside, libc takes a program that has made none for one of a single thread again; and a thread that the program makes counts
 * as ever. */
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>

#include "blocks.h"
#include "threads.h"

/* What libc itself reads; the program has a copy of the variable. */
static const char* libc_own;

static void check_libc_says(int lone) {
  CHECK_EQ(__libc_single_threaded != 0, lone);
  CHECK_EQ(*libc_own != 0, lone);
}

static void bring_service(void) {
  while (count_threads() < 2) poll(NULL, 0, 1);
  check_libc_says(0);
}

static void reap(pid_t child) {
  CHECK(child >= 0);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

static void* check_threads(void* unused) {
  (void)unused;
  check_libc_says(0);
  return NULL;
}

static void make_thread(void) {
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, NULL, check_threads, NULL), 0);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  check_libc_says(0);
}

/* The child of a program that has made no thread, and its own child when it has had the service thread itself. */
static void fork_alone(void) {
  pid_t child = fork();
  if (child == 0) {
    check_libc_says(1);
    bring_service();
    child = fork();
    if (child == 0) {
      check_libc_says(1);
      make_thread();
      _exit(0);
    }
    reap(child);
    _exit(0);
  }
  reap(child);
}

/* It forks where pthread_create() may have been interrupted. */
static volatile sig_atomic_t handled;
static void fork_here(int signal_number) {
  (void)signal_number;
  const pid_t child = fork();
  if (child == 0) {
    check_libc_says(0);
    _exit(0);
  }
  reap(child);
  handled = 1;
}

static void fork_in_handler(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = fork_here;
  CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
  bring_service();
  CHECK_EQ(raise(SIGUSR1), 0);
  CHECK_EQ(handled, 1);
}

/* libc has looked before it runs the program's handlers: what they allocate brings no thread. */
static void allocate_alone(void) {
  struct chain chain = {0};
  chain_grow_by(&chain, 2 * kMiB, 20 * kKiB);
  chain_drop(&chain);
  CHECK_EQ(count_threads(), 1);
  check_libc_says(1);
}

static void fork_with_handler(void) {
  CHECK_EQ(pthread_atfork(allocate_alone, NULL, NULL), 0);
  bring_service();
  const pid_t child = fork();
  if (child == 0) _exit(0);
  reap(child);
}

int main(void) {
  need_library();
  libc_own = dlsym(RTLD_NEXT, "__libc_single_threaded");
  if (libc_own == NULL) SKIP("this libc does not say");
  check_libc_says(1);
  struct chain chain = {0};
  chain_grow_by(&chain, 8 * kMiB, 10 * kKiB);
  for (int i = 0; i < 3; ++i) {
    bring_service();
    fork_alone();
  }
  fork_in_handler();
  fork_with_handler();
  bring_service();
  CHECK_EQ(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0), 0);
  check_libc_says(1);
  make_thread();
  bring_service();
  // The program's own thread is not undone.
  CHECK_EQ(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0), 0);
  check_libc_says(0);
  chain_drop(&chain);
  return 0;
}
