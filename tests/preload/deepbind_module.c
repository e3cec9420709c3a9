/* A module whose own allocations and frees meet the program's. Used by deepbind_module_shares_the_heap.c. */
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT void* module_allocate(size_t size);
EXPORT void* module_resize(void* block, size_t size);
EXPORT void module_release(void* block);
EXPORT char* module_copy(const char* text);

void* module_allocate(size_t size) { return malloc(size); }
void* module_resize(void* block, size_t size) { return realloc(block, size); }
void module_release(void* block) { free(block); }
char* module_copy(const char* text) { return strdup(text); }
