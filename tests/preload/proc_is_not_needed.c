/* With nothing mounted on /proc a program starts, allocates past its limit, reads statistics and exits as usual. */
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>

#include "check.h"

int main(int argc, char** argv) {
  if (argc == 1) {
    if (geteuid() != 0) SKIP("only root can hide /proc");
    if (unshare(CLONE_NEWNS) != 0) SKIP("no mount namespaces here");
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
      SKIP("mounts cannot be made private");
    if (mount("none", "/proc", "tmpfs", 0, NULL) != 0) SKIP("/proc cannot be covered");
    char* arguments[] = {argv[0], "inside", NULL};
    execv(argv[0], arguments);
    CHECK(!"exec");
  }
  CHECK(access("/proc/self", F_OK) != 0);
  void* blocks[300];
  for (int turn = 0; turn < 3; ++turn) {
    for (int i = 0; i < 300; ++i) {
      blocks[i] = malloc(100000);
      CHECK(blocks[i] != NULL);
      memset(blocks[i], 1, 100000);
    }
    if (memlimit_is_loaded()) CHECK(stats_now().heap_alloc >= 30000000);
    for (int i = 0; i < 300; ++i) free(blocks[i]);
    if (memlimit_is_loaded()) CHECK(memlimit_reclaim(0) >= 0);
  }
  return 0;
}
