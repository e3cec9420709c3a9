/* A library that is loaded later takes the first blocks of mimalloc's pages without malloc: of the others malloc never says
 * that they are larger than they are. argv[1]: mimalloc_module. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

enum { kOldPages = 900, kPageBytes = 64 << 10, kOldBytes = 1024, kBytes = 32, kMoreBytes = 700 };
enum { kOld = kOldPages * (kPageBytes / kOldBytes), kBlocks = 200 * (kPageBytes / kBytes) };

static void* old[kOld];
static void* blocks[kBlocks];

int main(int argc, char** argv) {
  CHECK_EQ(argc, 2);
  need_library();
  /* Pages of another size were in these places before, and what they were is remembered. */
  for (int i = 0; i < kOld; ++i) CHECK((old[i] = malloc(kOldBytes)) != NULL);
  for (int i = 0; i < kOld; ++i) free(old[i]);
  malloc_trim(0);
  void* const module = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(module != NULL);
  void* (*const allocate)(size_t) = dlsym(module, "module_allocate");
  CHECK(allocate != NULL);
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = i % 2 == 0 ? allocate(kBytes) : malloc(kBytes);
    CHECK(blocks[i] != NULL);
  }
  for (int i = 1; i < kBlocks; i += 2) {
    CHECK_EQ(malloc_usable_size(blocks[i]), kBytes);
    void* const moved = realloc(blocks[i], kMoreBytes);
    CHECK(moved != NULL && moved != blocks[i]);
    blocks[i] = moved;
  }
  return 0;
}
