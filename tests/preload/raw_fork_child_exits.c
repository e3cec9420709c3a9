/* The child of a clone system call, which runs no fork handlers, calls exit(): the parent's socket stays. MEMLIMIT_SOCKET
 * names its path. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

int main(void) {
  need_library();
  settle(); /* the service thread runs, and has opened the socket */
  const char* const path = getenv("MEMLIMIT_SOCKET");
  CHECK(path != NULL && access(path, F_OK) == 0);
  const long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  CHECK(child >= 0);
  if (child == 0) exit(0);
  int status = 0;
  CHECK_EQ(waitpid((pid_t)child, &status, 0), child);
  CHECK_EQ(status, 0);
  CHECK_EQ(access(path, F_OK), 0);
  return 0;
}
