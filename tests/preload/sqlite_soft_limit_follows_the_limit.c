/* SQLite's soft heap limit is half of the limit, whatever becomes of that while a connection is open; one that the program
 * has set itself stays. Arguments: two plugins, each with a copy of SQLite. */
#include <dlfcn.h>

#include "check.h"
#include "sqlite_copy.h"

/* Loads a plugin and opens a connection. */
static struct sqlite_state* use(const char* path, const char* state_name) {
  void* plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CHECK(plugin != NULL);
  int (*open)(void**) = (int (*)(void**))dlsym(plugin, "user_open");
  struct sqlite_state* state = dlsym(plugin, state_name);
  CHECK(open != NULL && state != NULL);
  void* connection = NULL;
  CHECK_EQ(open(&connection), 0);
  return state;
}

/* MEMLIMIT_START is 50 %. */
static int64_t half_of(int64_t bytes) { return bytes / 100 * 50; }

static void wait_for(const struct sqlite_state* state, int64_t bytes) {
  while (state->soft_limit != bytes) usleep(1000);
}

int main(int argc, char** argv) {
  enum { kMiB = 1 << 20 };
  CHECK(argc == 3);
  need_library();
  struct sqlite_state* one = use(argv[1], "sqlite_state_1");
  struct sqlite_state* two = use(argv[2], "sqlite_state_2");
  CHECK_EQ(one->soft_limit, half_of(64 * kMiB));
  CHECK_EQ(two->soft_limit, half_of(64 * kMiB));

  for (int i = 0; i < 20; ++i) {
    static const int64_t limits[] = {(int64_t)10240 * kMiB, 0, 16 * kMiB};
    CHECK(memlimit_set(limits[i % 3]) >= 0);
    wait_for(one, half_of(limits[i % 3]));
    wait_for(two, half_of(limits[i % 3]));
  }

  /* The first one's copy is told before the second's. */
  one->soft_limit = 12345;
  for (int i = 0; i < 2; ++i) {
    memlimit_set((100 + i) * kMiB);
    wait_for(two, half_of((100 + i) * kMiB));
    CHECK_EQ(one->soft_limit, 12345);
  }
  return 0;
}
