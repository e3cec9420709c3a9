/* A program closes every descriptor, ours included, and fills the table with sockets and files of its own: none of them is
 * written to, read from or closed by us, not in a child of fork either. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum {
  kTable = 256,
  kFirst = 3,
  kPairs = 100,
  kBlocks = 400,
  kBlockBytes = 100000,
  kFileBytes = 65536
};

static int ends[kPairs][2];
static int file = -1;

static void allocate_much(void) {
  static void* blocks[kBlocks];
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = malloc(kBlockBytes);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], 1, kBlockBytes);
  }
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
}

static int64_t nothing(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  return 0;
}

static void all_is_as_it_was(void) {
  for (int i = 0; i < kPairs; ++i) {
    for (int k = 0; k < 2; ++k) {
      struct stat status;
      CHECK_EQ(fstat(ends[i][k], &status), 0);
      CHECK(S_ISSOCK(status.st_mode));
      char byte;
      errno = 0;
      CHECK_EQ(recv(ends[i][k], &byte, 1, MSG_DONTWAIT), -1);
      CHECK_EQ(errno, EAGAIN);
    }
  }
  CHECK_EQ(lseek(file, 0, SEEK_CUR), kFileBytes / 2);
}

int main(void) {
  /* A small table, so that the program reaches our numbers. */
  const struct rlimit table = {kTable, kTable};
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &table), 0);
  memlimit_hook_id id = 0;
  if (memlimit_is_loaded()) {
    const struct memlimit_hook hook = {sizeof hook, "nothing", MEMLIMIT_ASYNC, nothing, NULL};
    CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
    settle();
  }
  allocate_much();
  CHECK_EQ(syscall(SYS_close_range, (unsigned)kFirst, ~0U, 0U), 0);
  static char content[kFileBytes];
  file = memfd_create("content", 0);
  CHECK(file >= 0);
  CHECK_EQ(write(file, content, sizeof content), kFileBytes);
  CHECK_EQ(lseek(file, kFileBytes / 2, SEEK_SET), kFileBytes / 2);
  for (int i = 0; i < kPairs; ++i) CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[i]), 0);
  while (dup(file) >= 0) continue; /* the rest of the table */
  allocate_much();
  if (memlimit_is_loaded()) memlimit_set(memlimit_get());
  allocate_much();
  all_is_as_it_was();
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    all_is_as_it_was();
    _exit(0);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  return 0;
}
