/* A module that can only be found through the RUNPATH of the library that loads it; its constructor allocates. */
#include <stdlib.h>

__attribute__((visibility("default"))) int runpath_inner_answer(void);

static void* block;

__attribute__((constructor)) static void allocate(void) { block = malloc(1 << 20); }
__attribute__((destructor)) static void release(void) { free(block); }

int runpath_inner_answer(void) { return block != NULL ? 42 : 0; }
