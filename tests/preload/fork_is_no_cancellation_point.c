/* A thread with a cancellation pending forks while the library has descriptors open: neither side is cancelled before it is
 * back in its own code, and the child leaves as it wants to. */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "blocks.h"

enum { kStatus = 7 };
static int survived;

static void* fork_while_cancelled(void* unused) {
  (void)unused;
  CHECK_EQ(pthread_cancel(pthread_self()), 0); /* deferred: takes effect at a cancellation point */
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    struct chain chain = {0};
    chain_grow_by(&chain, 4 * kMiB, 10 * kKiB);
    chain_drop(&chain);
    _exit(kStatus);
  }
  int state;
  CHECK_EQ(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state), 0);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), kStatus);
  ++survived;
  CHECK_EQ(pthread_setcancelstate(state, NULL), 0);
  for (;;) pthread_testcancel();
  return NULL;
}

/* A client of the socket that subscribed and stays, so that the child inherits the connection. */
static void subscribe(const char* directory) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/%d.sock", directory, (int)getpid());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  while (connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) usleep(1000);
  CHECK_EQ(write(fd, "events\n", 7), 7);
  struct pollfd entry = {fd, POLLIN, 0};
  CHECK_EQ(poll(&entry, 1, -1), 1); /* its first line: the server has it */
}

int main(int argc, char** argv) {
  settle();
  if (argc > 1) subscribe(argv[1]);
  for (int turn = 1; turn <= 3; ++turn) {
    pthread_t thread;
    void* result = NULL;
    CHECK_EQ(pthread_create(&thread, NULL, fork_while_cancelled, NULL), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_EQ(survived, turn);
  }
  return 0;
}
