/* The service thread may come up from any allocation: inside the constructor of a library that is being loaded, which
 * then even waits for a round, with the loader's lock held. The argument is the module's path. */
#include <dlfcn.h>

#include "blocks.h"

int main(int argc, char** argv) {
  CHECK(argc == 2);
  for (int i = 0; i < 3; ++i) {
    void* module = dlopen(argv[1], RTLD_NOW);
    CHECK(module != NULL);
    if (memlimit_is_loaded()) CHECK(stats_now().heap_alloc > 100 * kMiB);
    CHECK_EQ(dlclose(module), 0);
  }
  if (memlimit_is_loaded()) CHECK(stats_now().rounds > 0);
  return 0;
}
