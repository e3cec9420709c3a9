/* A plugin (MEMLIMIT_PLUGINS) that asks for all that can be reclaimed, every so many microseconds, for as long
 * as the process lives: also while its runtime starts, forks and shuts down. tests/adapters/bombard.py uses it.
 *
 * A thread of its own does it, so that it goes on while the program waits; in the child of fork there is none.
 * BOMBARD_US: microseconds between two demands, 300 if unset.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "memlimit.h"

static long interval_us = 300;

static void* bombard(void* arg) {
  const struct timespec interval = {0, interval_us * 1000};
  for (;;) {
    nanosleep(&interval, NULL);
    memlimit_reclaim(0);
  }
  return arg;
}

__attribute__((constructor)) static void start(void) {
  const char* const text = getenv("BOMBARD_US");
  if (text != NULL) interval_us = atol(text);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  pthread_t thread;
  if (pthread_create(&thread, NULL, bombard, NULL) == 0) pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}
