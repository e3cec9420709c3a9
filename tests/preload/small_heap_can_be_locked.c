/* A user's mlockall() under RLIMIT_MEMLOCK of 8 MiB, the kernel's default, succeeds in a program that holds 100 KB, and in
 * one that holds 1 MB: the kernel counts address space, all of it, so what the heap maps ahead stays small. */
#include <linux/capability.h>
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

/* The privilege that lets root lock what it likes; the user stays, whose files the library may be writing. By the call
 * itself: what happens around libc's functions is not what is asked here. */
static void give_up_locking(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
  CHECK_EQ(syscall(SYS_capget, &header, data), 0);
  data[0].effective &= ~(1U << CAP_IPC_LOCK);
  CHECK_EQ(syscall(SYS_capset, &header, data), 0);
}

int main(void) {
  const struct rlimit locked = {8 << 20, 8 << 20};
  CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &locked), 0);
  give_up_locking();
  hold(100);
  CHECK_EQ(mlockall(MCL_CURRENT), 0);
  CHECK_EQ(munlockall(), 0);
  hold(900);
  CHECK_EQ(mlockall(MCL_CURRENT), 0);
  return 0;
}
