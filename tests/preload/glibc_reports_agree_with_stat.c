/* mallinfo2, malloc_info and malloc_stats tell one number of bytes in use, which is stat's heap_alloc: what was
 * charged by hand is no block. */
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "check.h"

static char text[8192];

/* The last number that follows `label`. */
static int64_t number_after(const char* label) {
  const char* last = NULL;
  for (const char* at = text; (at = strstr(at, label)) != NULL; at += strlen(label)) last = at;
  CHECK(last != NULL);
  return strtoll(last + strlen(label), NULL, 10);
}

int main(void) {
  if (!memlimit_is_loaded()) SKIP("the library is not loaded");
  settle();
  void* block = malloc(opaque_size(5000000));
  CHECK(block != NULL);
  memlimit_charge(3 << 20);
  FILE* stream = fmemopen(text, sizeof text, "w");
  CHECK(stream != NULL);
  setvbuf(stream, NULL, _IONBF, 0);

  const struct memlimit_stats stats = stats_now();
  const int64_t live = stats.heap_alloc;
  CHECK_EQ(stats.charged, 3 << 20);
  CHECK(live >= 5000000 && live < 6000000);
  CHECK_EQ(mallinfo2().uordblks, live);

  CHECK_EQ(malloc_info(0, stream), 0);
  CHECK_EQ(number_after("<system type=\"current\" size=\"") -
               number_after("<total type=\"rest\" count=\"1\" size=\""),
           live);

  const int errors = dup(STDERR_FILENO);
  const int report = memfd_create("report", MFD_CLOEXEC);
  CHECK(report >= 0 && dup2(report, STDERR_FILENO) == STDERR_FILENO);
  malloc_stats();
  dup2(errors, STDERR_FILENO);
  memset(text, 0, sizeof text);
  CHECK(pread(report, text, sizeof text - 1, 0) > 0);
  CHECK_EQ(number_after("in use bytes     = "), live);
  CHECK(number_after("system bytes     = ") >= live);

  memlimit_charge(-(3 << 20));
  fclose(stream);
  free(block);
  return 0;
}
