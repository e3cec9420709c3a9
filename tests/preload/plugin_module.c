/* A plugin that registers a hook when it is loaded and removes it before it is unloaded. Used by
 * plugin_can_be_unloaded.c. */
#include <pthread.h>

#include "blocks.h"

__attribute__((visibility("default"))) int plugin_calls(void);

static memlimit_hook_id id;
static _Atomic int calls;

static int64_t reclaim(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  ++calls;
  free(malloc(opaque_size(1000)));
  return 0;
}

int plugin_calls(void) { return calls; }

__attribute__((constructor)) static void enter(void) {
  const struct memlimit_hook hook = {sizeof hook, "plugin", MEMLIMIT_ASYNC, reclaim, NULL};
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
}

__attribute__((destructor)) static void leave(void) { CHECK_EQ(memlimit_hook_remove(id), 0); }
