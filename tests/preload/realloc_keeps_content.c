/* Content survives growing and shrinking between every pair of size classes, for plain and aligned blocks, and
 * the result is aligned for any type. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

static unsigned char pattern(size_t i) { return (unsigned char)(i * 131 + (i >> 8) * 17); }

int main(void) {
  const size_t sizes[] = {1,    8,    15,   16,   17,    64,    100,    500,     1023,    1024,
                          4000, 4096, 8192, 9000, 65536, 65537, 131072, 1 << 20, 3 << 20, 40 << 20};
  const size_t count = sizeof sizes / sizeof sizes[0];
  for (size_t from = 0; from < count; ++from) {
    for (size_t to = 0; to < count; ++to) {
      for (int aligned = 0; aligned < 2; ++aligned) {
        unsigned char* block = aligned ? memalign(256, sizes[from]) : malloc(sizes[from]);
        CHECK(block != NULL);
        const size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
        /* Large blocks: the ends and one byte a page are enough to see a wrong copy. */
        const size_t step = kept > 65536 ? 509 : 1;
        for (size_t i = 0; i < kept; i += step) block[i] = pattern(i);
        block[kept - 1] = 0x77;
        block = realloc(block, sizes[to]);
        CHECK(block != NULL);
        if (sizes[to] >= 16) CHECK_EQ((uintptr_t)block % 16, 0);
        CHECK(malloc_usable_size(block) >= sizes[to]);
        for (size_t i = 0; i + 1 < kept; i += step) CHECK(block[i] == pattern(i));
        CHECK(block[kept - 1] == 0x77);
        free(block);
      }
    }
  }
  /* A long run of small growths and shrinks, as a string builder does. */
  char* text = NULL;
  for (size_t length = 1; length < 30000; ++length) {
    text = realloc(text, length);
    CHECK(text != NULL);
    text[length - 1] = (char)('a' + length % 26);
  }
  for (size_t length = 29999; length > 0; length -= 7) {
    text = realloc(text, length);
    CHECK(text != NULL);
    CHECK(text[length - 1] == (char)('a' + length % 26));
    if (length < 8) break;
  }
  free(text);
  return 0;
}
