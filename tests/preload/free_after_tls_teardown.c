/* libc frees per-thread blocks of its own after all destructors of the thread have run (strerror's buffer, resolver
 * state), and the joining thread those of the thread's dynamic TLS: all of them are counted, by then without a
 * thread to count for. */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

static _Alignas(4096) char stack_memory[256 << 10];
static char* (*touch)(void);

static void* use_per_thread_blocks(void* unused) {
  (void)unused;
  CHECK(strstr(strerror(123456), "123456") != NULL); /* allocates this thread's buffer */
  CHECK(strsignal(123456) != NULL);
  CHECK(touch()[0] == 1);
  CHECK(dlopen("/nonexistent/object.so", RTLD_NOW) == NULL); /* leaves a message with dlerror */
  free(malloc(opaque_size(100)));
  return NULL;
}

static void run_thread(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  CHECK_EQ(pthread_attr_init(&attributes), 0);
  CHECK_EQ(pthread_attr_setstack(&attributes, stack_memory, sizeof stack_memory), 0);
  CHECK_EQ(pthread_create(&thread, &attributes, use_per_thread_blocks, NULL), 0);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  pthread_attr_destroy(&attributes);
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  settle();
  void* module =
      dlopen(argv[1], RTLD_NOW); /* after the start: its TLS cannot be in the static block */
  CHECK(module != NULL);
  touch = (char* (*)(void))dlsym(module, "tls_module_touch");
  CHECK(touch != NULL);
  run_thread();
  run_thread();
  const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  for (int i = 0; i < 200; ++i) run_thread();
  if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc, before);
  return 0;
}
