/* Alignments up to 1 GiB are honoured by the whole aligned family, the blocks can be used, resized and freed. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

int main(void) {
  for (size_t alignment = 32; alignment <= ((size_t)1 << 30); alignment *= 2) {
    const size_t sizes[] = {1, 100, 4096, 70000, 3 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
      void* block = NULL;
      CHECK_EQ(posix_memalign(&block, alignment, sizes[i]), 0);
      CHECK_EQ((uintptr_t)block % alignment, 0);
      CHECK(malloc_usable_size(block) >= sizes[i]);
      memset(block, 0x11, sizes[i]);
      void* other = aligned_alloc(alignment, sizes[i]);
      CHECK(other != NULL && other != block);
      CHECK_EQ((uintptr_t)other % alignment, 0);
      memset(other, 0x22, sizes[i]);
      free(block);
      unsigned char* bytes = realloc(other, sizes[i] * 2);
      CHECK(bytes != NULL);
      CHECK(bytes[0] == 0x22 && bytes[sizes[i] - 1] == 0x22);
      free(bytes);
      unsigned char* third = memalign(alignment, sizes[i]);
      CHECK(third != NULL);
      CHECK_EQ((uintptr_t)third % alignment, 0);
      third[sizes[i] - 1] = 1;
      free(third);
    }
  }
  return 0;
}
