/* A plugin whose hook is being asked all the time is loaded and unloaded over and over: since removal waits, no call ever
 * lands in unmapped code. The argument is the plugin's path. */
#include <dlfcn.h>
#include <pthread.h>

#include "blocks.h"

static _Atomic int stop;

static void* press(void* unused) {
  (void)unused;
  struct chain chain = {0};
  while (!stop) {
    chain_grow_by(&chain, 2 * kMiB, 10 * kKiB);
    memlimit_reclaim(kMiB);
    chain_drop(&chain);
  }
  return NULL;
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  need_library();
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, NULL, press, NULL), 0);
  for (int i = 0; i < 100; ++i) {
    void* plugin = dlopen(argv[1], RTLD_NOW);
    CHECK(plugin != NULL);
    int (*calls)(void) = (int (*)(void))dlsym(plugin, "plugin_calls");
    CHECK(calls != NULL);
    const int before = calls();
    if (i % 10 == 0) memlimit_reclaim(0);
    CHECK(calls() >= before);
    CHECK_EQ(dlclose(plugin), 0);
  }
  stop = 1;
  CHECK_EQ(pthread_join(thread, NULL), 0);
  return 0;
}
