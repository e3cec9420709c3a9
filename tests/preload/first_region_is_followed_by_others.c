/* The heap's first mapping grows where it is, until somebody has what follows: then the heap goes on elsewhere, and nobody's
 * bytes change. */
#include <stdlib.h>
#include <sys/mman.h>

#include "check.h"

enum { kBlockBytes = 1000, kBlocks = 20000, kForeignBytes = 1 << 16 };

static unsigned char* blocks[kBlocks];

/* Where the mapping ends that the address is in. */
static char* end_of_mapping(const void* address) {
  FILE* const maps = fopen("/proc/self/maps", "r");
  CHECK(maps != NULL);
  unsigned long begin = 0, end = 0, found = 0;
  char rest[4096];
  while (found == 0 && fscanf(maps, "%lx-%lx%4095[^\n]", &begin, &end, rest) == 3)
    if (begin <= (unsigned long)address && (unsigned long)address < end) found = end;
  fclose(maps);
  CHECK(found != 0);
  return (char*)found;
}

static void fill(int from, int upto) {
  for (int i = from; i < upto; ++i) {
    blocks[i] = malloc(kBlockBytes);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], i & 0xff, kBlockBytes);
  }
}

int main(void) {
  need_library();
  fill(0, 10);
  char* const behind = end_of_mapping(blocks[0]);
  char* const foreign = mmap(behind, kForeignBytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (foreign == MAP_FAILED) SKIP("the heap's first mapping is not alone");
  CHECK(foreign == behind);
  memset(foreign, 0xaa, kForeignBytes);
  fill(10, kBlocks);
  for (int i = 0; i < kForeignBytes; ++i) CHECK_EQ((unsigned char)foreign[i], 0xaa);
  for (int i = 0; i < kBlocks; ++i) {
    for (int b = 0; b < kBlockBytes; ++b) CHECK_EQ(blocks[i][b], i & 0xff);
    free(blocks[i]);
  }
  return 0;
}
