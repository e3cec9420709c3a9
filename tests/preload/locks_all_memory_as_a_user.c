/* A user's mlockall() under RLIMIT_MEMLOCK of 8 MiB (the kernel's default) succeeds in a small program as without the
 * library: what it maps and what its variables take stays small. Once a service thread has been there libc keeps its stack,
 * and it does not. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "check.h"

int main(void) {
  need_library();
  const struct rlimit locked = {8 << 20, 8 << 20};
  CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &locked), 0);
  if (geteuid() == 0) CHECK_EQ(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
  CHECK_EQ(mlockall(MCL_CURRENT), 0);
  CHECK_EQ(munlockall(), 0);
  return 0;
}
