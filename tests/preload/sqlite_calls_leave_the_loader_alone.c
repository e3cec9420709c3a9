/* Opening and closing a database takes no lock of the loader's, which a program may hold while it waits for the thread
 * that does: dlclose does while a plugin's destructor runs. And it leaves what dlerror() is to say. The argument is the
 * plugin. */
#include <dlfcn.h>

#include "check.h"

static void* name_in(void* module, const char* name) {
  void* found = dlsym(module, name);
  CHECK(found != NULL);
  return found;
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  void* plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(plugin != NULL);
  int (*open)(void**) = (int (*)(void**))name_in(plugin, "user_open");
  int (*close)(void*) = (int (*)(void*))name_in(plugin, "user_close");
  void (*leaves_one)(void) = (void (*)(void))name_in(plugin, "user_leaves_one");

  for (int i = 0; i < 2; ++i) {
    CHECK(dlopen("/nonexistent.so", RTLD_NOW) == NULL);
    void* connection = NULL;
    CHECK_EQ(open(&connection), 0);
    if (i == 0) CHECK(dlerror() != NULL);
    CHECK_EQ(close(connection), 0);
    if (i == 1) CHECK(dlerror() != NULL);
  }

  leaves_one();
  CHECK_EQ(dlclose(plugin), 0);
  return 0;
}
