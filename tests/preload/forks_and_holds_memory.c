/* Parent and child hold different amounts of memory and say their process ids; both wait until standard input ends. */
#include <sys/wait.h>

#include "blocks.h"

static void hold(const char* who, int64_t bytes) {
  struct chain chain = {0};
  chain_grow_by(&chain, bytes, 64 * kKiB);
  printf("%s %d\n", who, getpid());
  fflush(stdout);
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0 || errno == EINTR) {
  }
  chain_drop(&chain);
}

int main(void) {
  need_library();
  int child_may_speak[2];
  CHECK_EQ(pipe(child_may_speak), 0);
  struct chain chain = {0};
  chain_grow_by(&chain, 10 * kMiB, 64 * kKiB); /* the service thread is up before the fork */
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    char byte;
    close(child_may_speak[1]);
    CHECK_EQ(read(child_may_speak[0], &byte, 1), 0);
    hold("child", 25 * kMiB); /* beside the 10 it inherited */
    exit(0);
  }
  close(child_may_speak[0]);
  printf("parent %d\n", getpid());
  fflush(stdout);
  close(child_may_speak[1]);
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0 || errno == EINTR) {
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  chain_drop(&chain);
  return 0;
}
