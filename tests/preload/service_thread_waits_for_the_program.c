/* A setting that asks for the service thread does not bring it before the program has set up what it sets up: a program that
 * waits for its children only has none, one that waits for events has it from then on. */
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "threads.h"

int main(void) {
  need_library();
  CHECK_EQ(count_threads(), 1);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK_EQ(count_threads(), 1);
    poll(NULL, 0, 0); /* no wait */
    CHECK_EQ(count_threads(), 1);
    poll(NULL, 0, 1);
    CHECK_EQ(count_threads(), 2);
    exit(0);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  CHECK_EQ(count_threads(), 1);
  const struct timespec moment = {0, 1};
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL), 0);
  CHECK_EQ(count_threads(), 2);
  return 0;
}
