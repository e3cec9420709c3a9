/* Allocates and frees a small block as often as its argument says, and exits. The runner counts the system calls. */
#include <stdlib.h>

#include "check.h"

int main(int argc, char** argv) {
  CHECK(argc == 2);
  const long turns = strtol(argv[1], NULL, 10);
  CHECK(turns > 0);
  for (long i = 0; i < turns; ++i) {
    char* block = malloc((size_t)(i % 100) + 1);
    CHECK(block != NULL);
    block[0] = 1;
    free(block);
  }
  return 0;
}
