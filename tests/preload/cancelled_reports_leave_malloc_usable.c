/* A thread cancelled inside malloc_stats or malloc_info (they write to streams, which are cancellation points)
 * leaves no lock behind: malloc and both reports still work. */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

static FILE* null_stream;

static void* report_while_cancelled(void* which) {
  pthread_cancel(pthread_self());
  if (which != NULL) {
    malloc_info(0, null_stream);
  } else {
    malloc_stats();
  }
  for (;;) pthread_testcancel();
  return NULL;
}

int main(void) {
  const int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  CHECK(null_fd >= 0);
  const int saved_stderr = dup(STDERR_FILENO);
  CHECK(dup2(null_fd, STDERR_FILENO) == STDERR_FILENO);
  null_stream = fdopen(null_fd, "w");
  CHECK(null_stream != NULL);
  char which;
  for (int i = 0; i < 20; ++i) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, report_while_cancelled, i % 2 == 0 ? NULL : &which), 0);
    void* result = NULL;
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
    for (size_t size = 1; size < (1 << 20); size *= 2) free(opaque(malloc(size)));
    malloc_stats();
    CHECK_EQ(malloc_info(0, null_stream), 0);
    CHECK(mallinfo2().uordblks > 0);
  }
  dup2(saved_stderr, STDERR_FILENO);
  return 0;
}
