/* A module loaded with RTLD_DEEPBIND (PHP loads its own so) resizes and frees the program's blocks and the program its
 * blocks: they are of one heap, whatever the loader was told. The argument is the module's path. */
#include <dlfcn.h>
#include <stdlib.h>

#include "check.h"

int main(int argc, char** argv) {
  CHECK(argc == 2);
  settle();
  void* module = dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND);
  CHECK(module != NULL);
  void* (*allocate)(size_t) = (void* (*)(size_t))dlsym(module, "module_allocate");
  void* (*resize)(void*, size_t) = (void* (*)(void*, size_t))dlsym(module, "module_resize");
  void (*release)(void*) = (void (*)(void*))dlsym(module, "module_release");
  char* (*copy)(const char*) = (char* (*)(const char*))dlsym(module, "module_copy");
  CHECK(allocate != NULL && resize != NULL && release != NULL && copy != NULL);
  const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  for (size_t size = 1; size < (16 << 20); size = size * 2 + 1) {
    unsigned char* theirs = allocate(size);
    CHECK(theirs != NULL);
    theirs[0] = 1;
    theirs = realloc(theirs, size * 2);
    CHECK(theirs != NULL && theirs[0] == 1);
    free(theirs);

    unsigned char* ours = malloc(size);
    CHECK(ours != NULL);
    ours[0] = 2;
    ours = resize(ours, size * 2);
    CHECK(ours != NULL && ours[0] == 2);
    release(ours);

    release(strdup("ours"));
    free(copy("theirs"));
  }
  if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc, before);
  CHECK_EQ(dlclose(module), 0);
  return 0;
}
