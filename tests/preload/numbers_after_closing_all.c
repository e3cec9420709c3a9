/* A program that closes every descriptor counts on the numbers that it opens next: a daemon opens /dev/null as 0 and has 1
 * and 2 stand for it. None of them is taken for an instant by a thread of ours that has lost its own, however busy the
 * thread is. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

#include "check.h"

enum { kTurns = 60, kBlocks = 200, kBlockBytes = 100000, kLooks = 400 };
static void* blocks[kBlocks];

/* Past every mark, so that the service thread has something to do. */
static void allocate_much(void) {
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = malloc(kBlockBytes);
    if (blocks[i] == NULL) _exit(2);
    memset(blocks[i], 1, kBlockBytes);
  }
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
}

static void open_as(int number) {
  const int fd = open("/dev/null", O_RDWR);
  if (fd != number) _exit(10 + number);
}

int main(void) {
  const struct timespec moment = {0, 3000000};
  allocate_much();
  for (int turn = 0; turn < kTurns; ++turn) {
    if (syscall(SYS_close_range, 0U, ~0U, 0U) != 0) {
      for (int fd = 0; fd < 4096; ++fd) close(fd);
    }
    allocate_much();
    for (int look = 0; look < kLooks; ++look) {
      open_as(0);
      close(0);
    }
    open_as(0);
    if (dup2(0, 1) != 1 || dup2(0, 2) != 2) _exit(3);
    allocate_much(); /* and the thread opens its own again */
    nanosleep(&moment, NULL);
  }
  return 0;
}
