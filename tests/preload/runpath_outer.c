/* A library with a RUNPATH of $ORIGIN/plugins that loads a module by its bare name. Used by
 * dlopen_uses_the_callers_runpath.c. */
#include <dlfcn.h>
#include <stdio.h>

__attribute__((visibility("default"))) int runpath_outer_answer(int flags);

int runpath_outer_answer(int flags) {
  void* module = dlopen("librunpath_inner.so", RTLD_NOW | flags);
  if (module == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return -1;
  }
  int (*answer)(void) = (int (*)(void))dlsym(module, "runpath_inner_answer");
  const int result = answer == NULL ? -2 : answer();
  return dlclose(module) == 0 ? result : -3;
}
