/* Blocks made before libmemlimit's constructor has run (by a shared object that the loader initialises first, and by
 * the program's own preinit functions) are counted, can be resized and freed later, also after its destructor. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"
#include "early_module.h"

static void* preinit_block;
static void* ctor_block;

static void allocate_in_preinit(void) {
  preinit_block = malloc(100000);
  CHECK(preinit_block != NULL);
  memset(preinit_block, 7, 100000);
}

/* Runs before the constructors of all shared objects. */
__attribute__((section(".preinit_array"),
               used)) static void (*const preinit_entry)(void) = allocate_in_preinit;

__attribute__((constructor)) static void allocate_in_constructor(void) {
  ctor_block = calloc(1, 5000);
}

int main(void) {
  settle();
  int64_t early_bytes =
      (int64_t)malloc_usable_size(preinit_block) + (int64_t)malloc_usable_size(ctor_block);
  for (int i = 0; i < kEarlyBlocks; ++i) early_bytes += (int64_t)malloc_usable_size(early_block(i));
  if (memlimit_is_loaded()) CHECK(stats_now().heap_alloc >= early_bytes);

  const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  int64_t freed_bytes = 0;
  for (int i = 0; i < kEarlyBlocks; i += 2) { /* the others stay for the destructor */
    unsigned char* block = early_block(i);
    CHECK(block[0] == (unsigned char)i);
    freed_bytes += (int64_t)malloc_usable_size(block);
    if (i % 4 == 0) {
      block = realloc(block, malloc_usable_size(block) + 1000);
      CHECK(block != NULL && block[0] == (unsigned char)i);
    }
    free(block);
    forget_early_block(i);
  }
  CHECK(((unsigned char*)preinit_block)[99999] == 7);
  freed_bytes +=
      (int64_t)malloc_usable_size(preinit_block) + (int64_t)malloc_usable_size(ctor_block);
  free(preinit_block);
  free(ctor_block);
  if (memlimit_is_loaded()) CHECK_EQ(before - stats_now().heap_alloc, freed_bytes);
  return 0;
}
