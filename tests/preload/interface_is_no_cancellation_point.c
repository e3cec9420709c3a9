/* A thread with a cancellation pending calls every function of the interface while all kinds of hooks are due: it is not
 * cancelled there, but when it is back in its own code. */
#include <pthread.h>

#include "blocks.h"

static _Atomic int calls[3], survived;

static int64_t count_call(const struct memlimit_request* request, void* argument) {
  (void)request;
  ++*(_Atomic int*)argument;
  return 0;
}

static void* use_interface(void* unused) {
  (void)unused;
  CHECK_EQ(pthread_cancel(pthread_self()), 0); /* deferred: takes effect at a cancellation point */
  const int contexts[] = {MEMLIMIT_ASYNC, MEMLIMIT_POLL, MEMLIMIT_INLINE};
  memlimit_hook_id ids[3] = {0};
  for (int i = 0; i < 3; ++i) {
    const struct memlimit_hook hook = {sizeof hook, "counts", contexts[i], count_call, &calls[i]};
    CHECK_EQ(memlimit_hook_add(&hook, &ids[i]), 0);
  }
  CHECK(memlimit_poll_fd() >= 0);
  const int64_t limit = memlimit_get();
  for (int turn = 0; turn < 3; ++turn) {
    struct chain chain = {0};
    chain_grow_by(&chain, 20 * kMiB, 10 * kKiB);
    memlimit_charge(kMiB);
    memlimit_reclaim(0);
    memlimit_poll();
    memlimit_set(64 * kMiB);
    (void)stats_now();
    memlimit_set(limit);
    memlimit_charge(-kMiB);
    chain_drop(&chain);
  }
  for (int i = 0; i < 3; ++i) {
    CHECK(calls[i] >= 1);
    CHECK_EQ(memlimit_hook_remove(ids[i]), 0);
  }
  ++survived;
  for (;;) pthread_testcancel();
  return NULL;
}

int main(void) {
  need_library();
  pthread_t thread;
  void* result = NULL;
  CHECK_EQ(pthread_create(&thread, NULL, use_interface, NULL), 0);
  CHECK_EQ(pthread_join(thread, &result), 0);
  CHECK(result == PTHREAD_CANCELED);
  CHECK_EQ(survived, 1);
  return 0;
}
