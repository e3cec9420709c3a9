/* A library that takes its memory from mimalloc by its own names, and a heap of its own there. Loaded by
 * loaded_library_uses_mimalloc.c and second_heap_keeps_its_content.c. */
#include <mimalloc.h>
#include <stddef.h>

void* module_allocate(size_t bytes) { return mi_malloc(bytes); }
void module_free(void* block) { mi_free(block); }

static mi_heap_t* heap;

void* module_allocate_in_heap(size_t bytes) {
  if (heap == NULL) heap = mi_heap_new();
  return mi_heap_malloc(heap, bytes);
}
