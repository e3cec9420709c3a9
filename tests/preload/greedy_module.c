/* A module whose constructor, run with the loader's lock held, allocates far past the limit. Used by
 * service_starts_inside_a_constructor.c. */
#include "blocks.h"

static struct chain chain;

__attribute__((constructor)) static void allocate(void) {
  chain_grow_by(&chain, 100 * kMiB, 10 * kKiB);
  if (memlimit_is_loaded()) memlimit_reclaim(kMiB);
}

__attribute__((destructor)) static void release(void) { chain_drop(&chain); }
