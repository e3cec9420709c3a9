/* Who makes a block smaller wants the rest back: no more than a quarter of a block is kept beyond what was asked for, but for
 * what no smaller block would save. What is in it stays, and a block that only just shrinks stays where it is. */
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

static unsigned char* grown(size_t bytes) {
  unsigned char* const block = opaque(malloc(bytes));
  CHECK(block != NULL);
  for (size_t i = 0; i < bytes; ++i) block[i] = (unsigned char)(i * 7 + bytes);
  return block;
}

/* What a new block of that size has. */
static size_t usable_of_new(size_t bytes) {
  void* const block = opaque(malloc(bytes));
  CHECK(block != NULL);
  const size_t usable = malloc_usable_size(block);
  free(block);
  return usable;
}

static void shrink(size_t from_bytes, size_t to_bytes) {
  unsigned char* block = grown(from_bytes);
  block = opaque(realloc(block, to_bytes));
  CHECK(block != NULL);
  const size_t usable = malloc_usable_size(block);
  CHECK(usable >= to_bytes);
  CHECK(usable - usable / 4 <= to_bytes || usable - usable / 4 <= usable_of_new(to_bytes));
  for (size_t i = 0; i < to_bytes; ++i) CHECK(block[i] == (unsigned char)(i * 7 + from_bytes));
  free(block);
}

int main(void) {
  for (size_t from = 24; from < 6000000; from += from / 3 + 8) {
    for (size_t to = from; to > 0; to -= to / 5 + 1) shrink(from, to);
  }
  /* As Redis trims a value that it has read. */
  unsigned char* const value = grown(5016);
  unsigned char* const trimmed = opaque(realloc(value, 2504));
  CHECK(malloc_usable_size(trimmed) < 2600);
  free(trimmed);
  for (size_t bytes = 400; bytes < 100000; bytes *= 3) {
    unsigned char* const block = grown(bytes);
    const uintptr_t before = (uintptr_t)block;
    unsigned char* const same = opaque(realloc(block, bytes - bytes / 8));
    CHECK((uintptr_t)same == before);
    free(same);
  }
  return 0;
}
