/* mremap with MREMAP_DONTUNMAP takes a place as a hint, as mmap does: a program that keeps some place free to
 * move its pages to finds them there. */
#include <sys/mman.h>

#include "check.h"

int main(void) {
  const size_t bytes = 1 << 20;
  const int kind = MAP_PRIVATE | MAP_ANONYMOUS;
  /* Nothing else is mapped in the middle of what was free a moment ago. */
  char* const free_place = mmap(NULL, 64 * bytes, PROT_NONE, kind, -1, 0);
  CHECK(free_place != MAP_FAILED);
  char* const pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, kind, -1, 0);
  CHECK(pages != MAP_FAILED);
  memset(pages, 7, bytes);
  char* const hint = free_place + 24 * bytes;
  CHECK_EQ(munmap(free_place, 64 * bytes), 0);
  char* const moved = mremap(pages, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, hint);
  if (moved == MAP_FAILED && errno == EINVAL) SKIP("the kernel has no MREMAP_DONTUNMAP");
  CHECK(moved == hint);
  CHECK_EQ(moved[bytes - 1], 7);
  CHECK_EQ(pages[bytes - 1], 0);
  return 0;
}
