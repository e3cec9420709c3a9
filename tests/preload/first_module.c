/* A library whose constructor runs before libmemlimit's, and takes what there is to take: the thread-specific keys that
 * need no memory, and the place behind which other fork handlers run. Used by library_that_comes_first.c. */
#include "first_module.h"

#include <pthread.h>
#include <stdlib.h>

#include "check.h"

/* More than glibc keeps inside a thread, which is 32. */
enum { kKeys = 40, kLargeBytes = 2 << 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void allocate_large(void) {
  /* Through a volatile: the pair is not to be optimised away. */
  void* volatile block = malloc(kLargeBytes);
  CHECK(block != NULL);
  free(block);
}

static void before_fork(void) {
  pthread_mutex_lock(&lock);
  allocate_large();
}

static void after_fork(void) {
  allocate_large();
  pthread_mutex_unlock(&lock);
}

void allocate_under_lock(void) {
  pthread_mutex_lock(&lock);
  allocate_large();
  pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void come_first(void) {
  for (int i = 0; i < kKeys; ++i) {
    pthread_key_t key;
    CHECK_EQ(pthread_key_create(&key, NULL), 0);
  }
  CHECK_EQ(pthread_atfork(before_fork, after_fork, after_fork), 0);
}
