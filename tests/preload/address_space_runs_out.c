/* Under a tight RLIMIT_AS, set before the start and again while running, malloc answers NULL with ENOMEM when it must,
 * in every thread; after a free the program goes on. */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "check.h"

enum { kMost = 100000, kThreads = 3 };

/* Allocates until nothing is left, then frees; returns how many blocks there were. */
static int exhaust(size_t size) {
  void** newest = NULL;
  int count = 0;
  for (; count < kMost; ++count) {
    errno = 0;
    void** block = malloc(size);
    if (block == NULL) {
      CHECK_EQ(errno, ENOMEM);
      break;
    }
    *block = newest;
    newest = block;
  }
  errno = 0;
  void* aligned = memalign(1 << 16, (size_t)1 << 30);
  CHECK(aligned == NULL);
  CHECK_EQ(errno, ENOMEM);
  errno = 0;
  CHECK(calloc((size_t)1 << 30, 1) == NULL);
  CHECK_EQ(errno, ENOMEM);
  if (newest != NULL) {
    errno = 0;
    CHECK(realloc(newest, (size_t)1 << 30) == NULL);
    CHECK_EQ(errno, ENOMEM);
  }
  while (newest != NULL) {
    void** next = *newest;
    free(newest);
    newest = next;
  }
  return count;
}

static void* exhaust_in_thread(void* unused) {
  (void)unused;
  for (int i = 0; i < 3; ++i) exhaust(20000);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc == 1) {
    const struct rlimit tight = {(rlim_t)400 << 20, (rlim_t)400 << 20};
    CHECK_EQ(setrlimit(RLIMIT_AS, &tight), 0);
    char* arguments[] = {argv[0], "tight", NULL};
    execv(argv[0], arguments);
    CHECK(!"exec");
  }
  CHECK(exhaust(1 << 20) > 10);
  CHECK(exhaust(3000) > 1000);
  pthread_t threads[kThreads];
  pthread_attr_t attributes;
  CHECK_EQ(pthread_attr_init(&attributes), 0);
  CHECK_EQ(pthread_attr_setstacksize(&attributes, 256 << 10), 0);
  for (int i = 0; i < kThreads; ++i)
    CHECK_EQ(pthread_create(&threads[i], &attributes, exhaust_in_thread, NULL), 0);
  for (int i = 0; i < kThreads; ++i) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  CHECK(exhaust(1 << 20) > 10);
  return 0;
}
