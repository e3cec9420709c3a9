/* A hook forks, and returns in the child, too. The copy of the service thread ends there, and with it the child, as it does in
 * any program whose last thread ends. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { kTurns = 5 };

static _Atomic int children;

static int64_t fork_child(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) return 0;
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  ++children;
  return 0;
}

int main(void) {
  need_library();
  const struct memlimit_hook hook = {sizeof hook, "forks", MEMLIMIT_ASYNC, fork_child, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  for (int i = 0; i < kTurns; ++i) memlimit_reclaim(0);
  CHECK(children >= kTurns);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
