/* A program in C loads a C++ module with RTLD_LOCAL, as interpreters load extensions: when memory is out inside it, its
 * own runtime's new_handler runs and its own bad_alloc is thrown, although neither can be found in any global scope. The
 * argument is the module's path. */
#include <dlfcn.h>

#include "check.h"

int main(int argc, char** argv) {
  CHECK(argc == 2);
  CHECK(dlsym(RTLD_DEFAULT, "__cxa_throw") == NULL);
  void* module = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (module == NULL) finish_saying(1, "%s", dlerror());
  void (*run)(void) = (void (*)(void))dlsym(module, "cpp_module_run_out_of_memory");
  CHECK(run != NULL);
  run();
  CHECK_EQ(dlclose(module), 0);
  return 0;
}
