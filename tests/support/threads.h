/* Seeing, in a tiny program, the threads that it did not make, and waiting for them: the service thread.
 * Threads: any.
 */
#pragma once

#include <dirent.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "check.h"

/** The threads of this process. */
static inline int count_threads(void) {
  struct stat tasks; /* a link from its parent, one from itself, and one from each thread */
  if (stat("/proc/self/task", &tasks) != 0) SKIP("no /proc here");
  return (int)tasks.st_nlink - 2;
}

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
