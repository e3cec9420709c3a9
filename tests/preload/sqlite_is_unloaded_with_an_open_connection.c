/* A plugin brings SQLite, leaves a connection open, and is unloaded: nobody calls what is not there any more, nor a copy
 * that was loaded to its place. A copy whose cache has been released stays. The argument is the plugin. */
#include <dlfcn.h>

#include "check.h"
#include "sqlite_copy.h"

static void* plugin;

/* Loads the plugin and leaves a connection open. */
static struct sqlite_state* use(const char* path) {
  plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CHECK(plugin != NULL);
  int (*open)(void**) = (int (*)(void**))dlsym(plugin, "user_open");
  struct sqlite_state* state = dlsym(plugin, "sqlite_state_1");
  CHECK(open != NULL && state != NULL);
  void* connection = NULL;
  CHECK_EQ(open(&connection), 0);
  return state;
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  need_library();
  for (int i = 0; i < 3; ++i) {
    use(argv[1]);
    CHECK_EQ(dlclose(plugin), 0);
    if (i > 0) memlimit_reclaim(0);
  }

  for (int i = 0; i < 3; ++i) {
    use(argv[1]);
    CHECK_EQ(dlclose(plugin), 0);
  }
  struct sqlite_state* state = use(argv[1]);
  memlimit_reclaim(0);
  CHECK(state->releases > 0);

  CHECK_EQ(dlclose(plugin), 0);
  const int before = state->releases;
  memlimit_reclaim(0);
  CHECK(state->releases > before);
  CHECK(use(argv[1]) == state);
  return 0;
}
