/* A program without threads of its own forks while the service thread is inside SQLite: no mutex of SQLite's is left
 * locked in the child for ever. The argument is a plugin that uses SQLite. */
#include <dlfcn.h>
#include <sys/wait.h>

#include "blocks.h"
#include "sqlite_copy.h"

enum { kForks = 10, kFailed = 3 };

/* Has the service thread run its hooks, until it is inside. */
static void wait_until_inside(struct sqlite_state* state) {
  struct chain chain = {0};
  while (!state->releasing) {
    if (chain.usable_bytes > 16 * kMiB) chain_drop(&chain);
    chain_grow(&chain, 10 * kKiB);
  }
  chain_drop(&chain);
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  need_library();
  void* plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(plugin != NULL);
  int (*open)(void**) = (int (*)(void**))dlsym(plugin, "user_open");
  struct sqlite_state* state = dlsym(plugin, "sqlite_state_1");
  CHECK(open != NULL && state != NULL);
  state->release_ms = 20;
  for (int i = 0; i < 3; ++i) {
    void* connection = NULL;
    CHECK_EQ(open(&connection), 0);
  }
  for (int i = 0; i < kForks; ++i) {
    wait_until_inside(state);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      if (pthread_mutex_trylock(&state->mutex) != 0) _exit(kFailed);
      pthread_mutex_unlock(&state->mutex);
      void* connection = NULL;
      _exit(open(&connection));
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
  return 0;
}
