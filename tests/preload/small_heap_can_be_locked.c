/* A user's mlockall() under RLIMIT_MEMLOCK of 8 MiB, the kernel's default, succeeds in a program that holds 100 KB, and in
 * one that holds 1 MB: the kernel counts address space, all of it, so what the heap maps ahead stays small. */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "check.h"

enum { kBlockBytes = 1000 };

static void hold(int blocks) {
  for (int i = 0; i < blocks; ++i) {
    char* const block = opaque(malloc(kBlockBytes));
    CHECK(block != NULL);
    memset(block, i, kBlockBytes);
  }
}

int main(void) {
  const struct rlimit locked = {8 << 20, 8 << 20};
  CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &locked), 0);
  // By the call itself: what libc's function does to other threads is not what is asked here.
  if (geteuid() == 0) CHECK_EQ(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
  hold(100);
  CHECK_EQ(mlockall(MCL_CURRENT), 0);
  CHECK_EQ(munlockall(), 0);
  hold(900);
  CHECK_EQ(mlockall(MCL_CURRENT), 0);
  return 0;
}
