/* free(NULL), in every spelling that the loaded libraries have, does nothing and leaves errno alone. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

int main(void) {
  errno = 4711;
  free(opaque(NULL));
  CHECK_EQ(errno, 4711);
  CHECK_EQ(malloc_usable_size(opaque(NULL)), 0);

  void (*cfree_function)(void*) = (void (*)(void*))dlsym(RTLD_DEFAULT, "cfree");
  void (*free_sized_function)(void*, size_t) =
      (void (*)(void*, size_t))dlsym(RTLD_DEFAULT, "free_sized");
  void (*free_aligned_sized_function)(void*, size_t, size_t) =
      (void (*)(void*, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
  if (memlimit_is_loaded()) {
    CHECK(cfree_function != NULL);
    CHECK(free_sized_function != NULL);
    CHECK(free_aligned_sized_function != NULL);
  }
  errno = 4711;
  if (cfree_function != NULL) cfree_function(NULL);
  if (free_sized_function != NULL) free_sized_function(NULL, 10);
  if (free_aligned_sized_function != NULL) free_aligned_sized_function(NULL, 64, 128);
  CHECK_EQ(errno, 4711);
  return 0;
}
