/* Linked with libmemlimit.so and run set-user-ID: goes over its limit, after which neither the socket nor the log that the
 * environment names may exist. The argument is their directory. */
#include <sys/auxv.h>

#include "blocks.h"

int main(int argc, char** argv) {
  CHECK(argc == 2);
  if (getauxval(AT_SECURE) == 0) SKIP("set-user-ID has no effect in this directory");
  need_library();
  CHECK_EQ(memlimit_get(), 4 * kMiB); /* what names no file counts */
  struct chain chain = {0};
  chain_grow_by(&chain, 30 * kMiB, 10 * kKiB);
  memlimit_reclaim(0); /* the service thread has done a turn */
  char path[4200];
  for (int i = 0; i < 2; ++i) {
    snprintf(path, sizeof path, "%s/%s", argv[1], i == 0 ? "a.sock" : "log");
    CHECK(access(path, F_OK) != 0);
  }
  chain_drop(&chain);
  return 0;
}
