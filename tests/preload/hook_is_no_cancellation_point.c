/* A thread with a cancellation pending runs POLL and INLINE hooks that do input and output, where threads are cancelled; it
 * is cancelled when it is back in its own code. Unwinding out of malloc would leave the program in pieces. */
#include <fcntl.h>
#include <pthread.h>

#include "blocks.h"

static int null_fd;
static _Atomic int calls, ended, survived;

static int64_t write_something(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  ++calls;
  CHECK_EQ(write(null_fd, "x", 1), 1);
  pthread_testcancel();
  ++ended;
  return 0;
}

static void* use_hooks(void* unused) {
  (void)unused;
  CHECK_EQ(pthread_cancel(pthread_self()), 0);
  for (int turn = 0; turn < 3; ++turn) {
    struct chain chain = {0};
    chain_grow_by(&chain, 20 * kMiB, 10 * kKiB);
    memlimit_reclaim(0);
    memlimit_poll();
    chain_drop(&chain);
  }
  ++survived;
  for (;;) pthread_testcancel();
  return NULL;
}

int main(void) {
  need_library();
  CHECK_EQ(memlimit_get(), 16 * kMiB);
  null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  CHECK(null_fd >= 0);
  const int contexts[] = {MEMLIMIT_POLL, MEMLIMIT_INLINE};
  for (int i = 0; i < 2; ++i) {
    const struct memlimit_hook hook = {sizeof hook, "writes", contexts[i], write_something, NULL};
    memlimit_hook_id id = 0;
    calls = ended = 0;
    CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
    pthread_t thread;
    void* result = NULL;
    CHECK_EQ(pthread_create(&thread, NULL, use_hooks, NULL), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_EQ(survived, i + 1);
    CHECK(calls >= 1);
    CHECK_EQ(ended, calls);
    CHECK_EQ(memlimit_hook_remove(id), 0);
  }
  return 0;
}
