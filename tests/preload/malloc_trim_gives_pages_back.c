/* After everything is freed malloc_trim(0) gives most of the pages back to the kernel; it answers 0 or 1. */
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

enum { kBlocks = 16384, kBlockBytes = 4000 };
static void* blocks[kBlocks];

static long resident_pages(void) {
  char text[128];
  int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) SKIP("no /proc/self/statm");
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  CHECK(length > 0);
  text[length] = '\0';
  long total = 0, resident = 0;
  CHECK_EQ(sscanf(text, "%ld %ld", &total, &resident), 2);
  return resident;
}

int main(void) {
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = malloc(kBlockBytes);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], 1, kBlockBytes);
  }
  const long full = resident_pages();
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
  const int answer = malloc_trim(0);
  CHECK(answer == 0 || answer == 1);
  const long page_bytes = sysconf(_SC_PAGESIZE);
  const long trimmed = resident_pages();
  if (full - trimmed < (long)kBlocks * kBlockBytes / page_bytes / 2)
    finish_saying(1, "%ld pages resident before, %ld after malloc_trim(0)", full, trimmed);
  const int again = malloc_trim(1 << 20);
  CHECK(again == 0 || again == 1);
  return 0;
}
