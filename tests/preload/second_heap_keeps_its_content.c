/* A thread has a second heap of mimalloc's: giving idle pages back does not touch what lies there. argv[1]: mimalloc_module. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

enum { kKept = 2000, kFreed = 20000, kBytes = 1000 };

static unsigned char* kept[kKept];
static void* freed[kFreed];

int main(int argc, char** argv) {
  CHECK_EQ(argc, 2);
  void* const module = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(module != NULL);
  void* (*const allocate)(size_t) = dlsym(module, "module_allocate_in_heap");
  CHECK(allocate != NULL);
  for (int i = 0; i < kFreed; ++i) CHECK((freed[i] = malloc(kBytes)) != NULL);
  for (int i = 0; i < kKept; ++i) {
    CHECK((kept[i] = allocate(kBytes)) != NULL);
    memset(kept[i], 0x5a, kBytes);
  }
  for (int i = 0; i < kFreed; ++i) {
    if (i % 50 != 0) free(freed[i]);
  }
  malloc_trim(0);
  for (int i = 0; i < kKept; ++i) {
    for (int at = 0; at < kBytes; ++at) CHECK_EQ(kept[i][at], 0x5a);
  }
  return 0;
}
