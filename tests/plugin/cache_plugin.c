/* A plugin: teaches memlimit to shrink the cache of a program that cannot be changed.
 *
 * It is loaded from memlimit's constructor, before main and before most other constructors: so it only
 * registers a hook here, and looks for the program's function when there is something to ask of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <memlimit.h>
#include <stddef.h>

typedef long (*shrink_function)(long bytes);

/* MEMLIMIT_ASYNC: on memlimit's own thread, with no lock held; it may lock, allocate and free. */
static int64_t reclaim(const struct memlimit_request* request, void* arg) {
  static shrink_function shrink;
  (void)arg;
  if (shrink == NULL) shrink = (shrink_function)dlsym(RTLD_DEFAULT, "cache_shrink");
  if (shrink == NULL) return MEMLIMIT_CANNOT_NOW; /* not held against it */
  return shrink((long)request->wanted_bytes);
}

__attribute__((constructor)) static void enter(void) {
  static const struct memlimit_hook hook = {sizeof hook, "cache-plugin", MEMLIMIT_ASYNC, reclaim,
                                            NULL};
  memlimit_hook_id id;
  /* Weak: a plugin that is loaded without the library does nothing. */
  if (memlimit_is_loaded()) memlimit_hook_add(&hook, &id);
}
