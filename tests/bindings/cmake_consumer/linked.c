/* Linked with the library: always under it. */
#include <stdio.h>

#include <memlimit.h>

int main(void) {
  printf("%d %lld\n", memlimit_is_loaded(), (long long)memlimit_get());
  return 0;
}
