/* A program runs with its three standard descriptors closed and few others allowed, as some daemons do: nothing that
 * memlimit opens stays under their numbers, where the program's write(1) would end up in it. */
#include <stdbool.h>
#include <sys/resource.h>

#include "check.h"

enum { kFewDescriptors = 64, kSaved = 10, kTurns = 10000, kTurnUs = 1000 };

static bool any_is_open(void) {
  for (int fd = 0; fd < 3; ++fd) {
    if (fcntl(fd, F_GETFD) != -1) return true;
  }
  return false;
}

int main(void) {
  const struct rlimit few = {kFewDescriptors, kFewDescriptors};
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, kSaved);
  CHECK(saved >= kSaved);
  for (int fd = 0; fd < 3; ++fd) close(fd);
  settle();
  /* A file that is read and closed again may have the number for a moment. */
  int turn = 0;
  while (any_is_open() && turn < kTurns) {
    usleep(kTurnUs);
    ++turn;
  }
  CHECK_EQ(dup2(saved, STDERR_FILENO), STDERR_FILENO);
  CHECK(turn < kTurns);
  return 0;
}
