/* Waiting, in a tiny program, for the threads that it did not make: the service thread.
 * Threads: any.
 */
#pragma once

#include <dirent.h>
#include <sched.h>
#include <stdlib.h>

#include "check.h"

/** Returns when every thread but the main one has been seen to wait: one that spins is never. At once without /proc. */
static inline void wait_for_threads_to_sleep(void) {
  DIR* directory = opendir("/proc/self/task");
  if (directory == NULL) return;
  for (const struct dirent* entry; (entry = readdir(directory)) != NULL;) {
    const int thread_id = atoi(entry->d_name);
    if (thread_id == 0 || thread_id == getpid()) continue;
    for (char state; (state = thread_state(thread_id)) != 'S' && state != 0;) sched_yield();
  }
  closedir(directory);
}
