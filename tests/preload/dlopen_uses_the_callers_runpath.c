/* dlopen of a bare name looks in the RUNPATH of the library that calls it, $ORIGIN included: the interposed dlopen must
 * not stand between the caller and the loader. */
#include <dlfcn.h>

#include "check.h"

extern int runpath_outer_answer(int flags);

int main(void) {
  CHECK(dlopen("librunpath_inner.so", RTLD_NOW) ==
        NULL); /* not in this program's own search path */
  for (int i = 0; i < 10; ++i) {
    CHECK_EQ(runpath_outer_answer(0), 42);
    CHECK_EQ(runpath_outer_answer(RTLD_GLOBAL), 42);
    CHECK_EQ(runpath_outer_answer(RTLD_DEEPBIND), 42);
  }
  CHECK(dlopen("/nonexistent/library.so", RTLD_NOW) == NULL);
  const char* message = dlerror();
  CHECK(message != NULL && strstr(message, "/nonexistent/library.so") != NULL);
  CHECK(dlerror() == NULL);
  void* self = dlopen(NULL, RTLD_NOW);
  CHECK(self != NULL);
  CHECK_EQ(dlclose(self), 0);
  return 0;
}
