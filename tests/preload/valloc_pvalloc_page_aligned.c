/* valloc aligns to the page; pvalloc also rounds the size up to whole pages, all of them usable. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

int main(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (size_t size = 0; size < 5 * page; size = size * 2 + 1) {
    char* block = valloc(opaque_size(size));
    CHECK(block != NULL);
    CHECK_EQ((uintptr_t)block % page, 0);
    CHECK(malloc_usable_size(block) >= size);
    memset(block, 1, size);
    free(block);

    block = pvalloc(opaque_size(size));
    CHECK(block != NULL);
    CHECK_EQ((uintptr_t)block % page, 0);
    size_t whole_pages = (size + page - 1) / page * page;
    CHECK(malloc_usable_size(block) >= whole_pages);
    memset(block, 1, whole_pages);
    free(block);
  }
  char* page_block = pvalloc(opaque_size(page));
  char* next_block = pvalloc(opaque_size(page + 1));
  CHECK(malloc_usable_size(next_block) >= 2 * page);
  page_block = realloc(page_block, 3 * page);
  next_block = realloc(next_block, 10);
  CHECK(page_block != NULL && next_block != NULL);
  free(page_block);
  free(next_block);
  return 0;
}
