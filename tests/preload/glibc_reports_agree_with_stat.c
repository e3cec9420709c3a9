/* mallinfo2, malloc_info and malloc_stats tell one number of bytes in use, which is stat's heap_alloc: what was
 * charged by hand is no block. */
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "check.h"

static char text[32768];

/* The last number that follows `label`. */
static int64_t number_after(const char* label) {
  const char* last = NULL;
  for (const char* at = text; (at = strstr(at, label)) != NULL; at += strlen(label)) last = at;
  CHECK(last != NULL);
  return strtoll(last + strlen(label), NULL, 10);
}

/* The number in `size` of the last total of this type. */
static int64_t size_of_total(const char* type) {
  char label[64];
  snprintf(label, sizeof label, "<total type=\"%s\" count=\"", type);
  const char* last = NULL;
  for (const char* at = text; (at = strstr(at, label)) != NULL; at += strlen(label)) last = at;
  CHECK(last != NULL && (last = strstr(last, "size=\"")) != NULL);
  return strtoll(last + strlen("size=\""), NULL, 10);
}

/* Over all rows of free blocks. */
static int64_t sum_of_sizes(void) {
  int64_t sum = 0;
  for (const char* at = text; (at = strstr(at, "<size from=\"")) != NULL;) {
    const int64_t from = strtoll(at + strlen("<size from=\""), NULL, 10);
    CHECK((at = strstr(at, "to=\"")) != NULL);
    const int64_t to = strtoll(at + strlen("to=\""), NULL, 10);
    CHECK((at = strstr(at, "total=\"")) != NULL);
    const int64_t total = strtoll(at + strlen("total=\""), NULL, 10);
    CHECK((at = strstr(at, "count=\"")) != NULL);
    const int64_t count = strtoll(at + strlen("count=\""), NULL, 10);
    CHECK(from <= to && count > 0 && total == count * to);
    sum += total;
  }
  return sum;
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
  const int64_t idle = size_of_total("fast") + size_of_total("rest");
  CHECK_EQ(number_after("<system type=\"current\" size=\"") - idle, live);
  CHECK(idle > 0);
  CHECK_EQ(sum_of_sizes(), idle);
  CHECK(size_of_total("mmap") >= 5000000);

  const int errors = dup(STDERR_FILENO);
  const int report = memfd_create("report", MFD_CLOEXEC);
  CHECK(report >= 0 && dup2(report, STDERR_FILENO) == STDERR_FILENO);
  malloc_stats();
  dup2(errors, STDERR_FILENO);
  memset(text, 0, sizeof text);
  CHECK(pread(report, text, sizeof text - 1, 0) > 0);
  CHECK_EQ(number_after("in use bytes     = "), live);
  CHECK(number_after("system bytes     = ") >= live);
  CHECK(number_after("max mmap regions = ") >= 1);
  CHECK(number_after("max mmap bytes   = ") >= 5000000);

  memlimit_charge(-(3 << 20));
  fclose(stream);
  free(block);
  return 0;
}
