/* A program that closes every descriptor, ours included, and opens files of its own in their place, goes on: allocation
 * past every mark works, and nothing of ours is read from, written to or closed in the program's files. */
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "check.h"
#include "threads.h"

enum { kPipes = 40, kBlocks = 300, kBlockBytes = 100000 };
static void* blocks[kBlocks];

static void allocate_much(void) {
  for (int turn = 0; turn < 5; ++turn) {
    for (int i = 0; i < kBlocks; ++i) {
      blocks[i] = malloc(kBlockBytes);
      if (blocks[i] == NULL) _exit(2);
      memset(blocks[i], 1, kBlockBytes);
    }
    for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
  }
}

int main(int argc, char** argv) {
  (void)argv;
  const int reclaim = argc > 1;  /* any argument: also ask for rounds */
  if (argc > 2) allocate_much(); /* two: let the service thread come up first */
  if (syscall(SYS_close_range, 0U, ~0U, 0U) != 0) {
    for (int fd = 0; fd < 4096; ++fd) close(fd);
  }
  allocate_much();
  if (reclaim && memlimit_is_loaded()) memlimit_reclaim(0);
  /* The statuses tell what failed: there is no descriptor left to say it on. */
  int ends[kPipes][2];
  ino_t inodes[kPipes][2];
  for (int i = 0; i < kPipes; ++i) {
    if (pipe2(ends[i], O_NONBLOCK) != 0) _exit(3);
    for (int k = 0; k < 2; ++k) {
      struct stat status;
      if (fstat(ends[i][k], &status) != 0) _exit(4);
      inodes[i][k] = status.st_ino;
    }
    if (i == 0 && ends[0][0] != 0) _exit(5); /* the numbers that programs count on are free */
  }
  allocate_much();
  if (reclaim && memlimit_is_loaded()) memlimit_reclaim(0);
  for (int i = 0; i < kPipes; ++i) {
    for (int k = 0; k < 2; ++k) {
      struct stat status;
      if (fstat(ends[i][k], &status) != 0 || status.st_ino != inodes[i][k]) _exit(6);
    }
    int readable = -1;
    if (ioctl(ends[i][0], FIONREAD, &readable) != 0 || readable != 0) _exit(7);
  }
  wait_for_threads_to_sleep();
  return 0;
}
