/* The nearer usage is to the limit, the fewer bytes are allocated from one round to the next. A live set is held at several
 * levels while a cache grows beside it and an inline hook, which runs in the thread that allocates, shrinks it as it is
 * told; the number of rounds for the same number of bytes allocated rises from level to level. */
#include "blocks.h"

enum { kLevels = 4 };
static const int level_percent[kLevels] = {55, 70, 85, 95};
/* What grows, and what the hook shrinks: one thread does both, but the compiler takes it that malloc does not. */
static _Atomic(void*) cache;
static _Atomic int64_t rounds;

static int64_t shrink_cache(const struct memlimit_request* request, void* argument) {
  (void)argument;
  ++rounds;
  int64_t freed = 0;
  for (void* block; freed < request->wanted_bytes && (block = cache) != NULL;) {
    cache = *(void**)block;
    freed += (int64_t)malloc_usable_size(block);
    free(block);
  }
  return freed;
}

int main(void) {
  need_library();
  const int64_t limit = memlimit_get();
  CHECK_EQ(limit, 256 * (int64_t)kMiB);
  const struct memlimit_hook hook = {sizeof hook, "cache", MEMLIMIT_INLINE, shrink_cache, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  struct chain live = {0};
  chain_grow_by(&live, limit / 100 * 48, 64 * kKiB);
  CHECK_EQ(rounds, 0);
  int64_t rounds_at[kLevels];
  for (int level = 0; level < kLevels; ++level) {
    chain_grow_by(&live, limit / 100 * level_percent[level] - live.usable_bytes, 64 * kKiB);
    const int64_t rounds_before = rounds;
    for (int i = 0; i < 32768; ++i) {   /* half a GiB */
      void** block = malloc(16 * kKiB); /* the hook runs in here, while the cache is whole */
      CHECK(block != NULL);
      *block = cache;
      cache = block;
    }
    rounds_at[level] = rounds - rounds_before;
    for (void* block; (block = cache) != NULL;) {
      cache = *(void**)block;
      free(block);
    }
  }
  for (int level = 1; level < kLevels; ++level) {
    if (rounds_at[level - 1] == 0 || rounds_at[level] <= rounds_at[level - 1]) {
      finish_saying(1, "%lld rounds at 55 %%, %lld at 70 %%, %lld at 85 %%, %lld at 95 %%",
                    (long long)rounds_at[0], (long long)rounds_at[1], (long long)rounds_at[2],
                    (long long)rounds_at[3]);
    }
  }
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
