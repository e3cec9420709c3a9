/* The child of a clone system call without CLONE_VM, which runs no fork handlers, allocates and frees well past the
 * marks at which memlimit takes a look: whatever it believes of its threads, it does not hang and does not crash. */
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"

int main(void) {
  void* blocks[100];
  for (int i = 0; i < 100; ++i) {
    blocks[i] = malloc(100000);
    CHECK(blocks[i] != NULL);
  }
  for (int number = 0; number < 50; ++number) {
    const long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    CHECK(child >= 0);
    if (child == 0) {
      for (int i = 0; i < 100; ++i) free(blocks[i]);
      for (int turn = 0; turn < 20; ++turn) {
        for (int i = 0; i < 100; ++i) {
          blocks[i] = malloc(50000);
          CHECK(blocks[i] != NULL);
          *(volatile char*)blocks[i] = 1;
        }
        for (int i = 0; i < 100; ++i) free(blocks[i]);
      }
      if (memlimit_is_loaded()) memlimit_reclaim(0);
      _exit(0);
    }
    int status = 0;
    CHECK_EQ(waitpid((pid_t)child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
  return 0;
}
