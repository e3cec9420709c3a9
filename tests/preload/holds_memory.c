/* Holds as many bytes as its argument says, in blocks of 64 KiB; writes "ready" and its usage to standard output, waits
 * until standard input ends, and exits. A client looks at it from outside meanwhile. */
#include "blocks.h"

int main(int argc, char** argv) {
  CHECK(argc == 2);
  need_library();
  struct chain chain = {0};
  chain_grow_by(&chain, strtoll(argv[1], NULL, 10), 64 * kKiB);
  printf("ready %lld\n", (long long)chain.usable_bytes);
  fflush(stdout);
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0 || errno == EINTR) {
  }
  chain_drop(&chain);
  return 0;
}
