/* A library's constructor runs before libmemlimit's: threads end as they should though no key is left that needs no
 * memory, and a fork is not waited for by a thread that holds what the library's handlers wait for. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "first_module.h"

enum { kThreads = 2, kForks = 200, kShortThreads = 50 };

static atomic_bool done;

static void* churn(void* argument) {
  while (!atomic_load(&done)) allocate_under_lock();
  return argument;
}

static void* allocate_once(void* argument) {
  void* volatile block = malloc(100);
  CHECK(block != NULL);
  free(block);
  return argument;
}

int main(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) CHECK_EQ(pthread_create(&threads[i], NULL, churn, NULL), 0);
  for (int i = 0; i < kForks; ++i) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      allocate_under_lock();
      _exit(0);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
  atomic_store(&done, true);
  for (int i = 0; i < kThreads; ++i) CHECK_EQ(pthread_join(threads[i], NULL), 0);

  const int64_t before = memlimit_is_loaded() ? stats_now().threads : 0;
  for (int i = 0; i < kShortThreads; ++i) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, allocate_once, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
  }
  if (memlimit_is_loaded()) CHECK(stats_now().threads < before + kShortThreads / 2);
  return 0;
}
