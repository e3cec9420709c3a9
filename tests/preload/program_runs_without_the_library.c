/* A program built with memlimit.h and linked with nothing runs with and without the library: the references are weak,
 * and memlimit_is_loaded tells. Run plainly, no argument; under the library, with one. */
#include "blocks.h"

int main(int argc, char** argv) {
  (void)argv;
  const int expected = argc > 1;
  CHECK_EQ(memlimit_is_loaded(), expected);
  if (memlimit_is_loaded()) {
    CHECK(memlimit_set != NULL && memlimit_hook_add != NULL && memlimit_hook_remove != NULL);
    CHECK(memlimit_reclaim != NULL && memlimit_poll_fd != NULL && memlimit_poll != NULL);
    CHECK(memlimit_charge != NULL && memlimit_read_stats != NULL);
    struct memlimit_stats stats;
    memset(&stats, 0xff, sizeof stats);
    CHECK_EQ(memlimit_read_stats(NULL, sizeof stats), -EINVAL);
    CHECK_EQ(memlimit_read_stats(&stats, 8), -EINVAL);
    const size_t two_figures = offsetof(struct memlimit_stats, heap_peak);
    CHECK_EQ(memlimit_read_stats(&stats, two_figures), 0);
    CHECK_EQ(stats.size, two_figures);
    CHECK(stats.heap_alloc >= 0);
    CHECK_EQ(stats.heap_peak, -1); /* beyond what the caller has room for: untouched */
    /* A caller of a later version has more room than this library fills. */
    char larger[sizeof stats + 64];
    CHECK_EQ(memlimit_read_stats((struct memlimit_stats*)(void*)larger, sizeof larger), 0);
    size_t filled = 0;
    memcpy(&filled, larger, sizeof filled);
    CHECK_EQ(filled, sizeof stats);
  } else {
    CHECK(memlimit_set == NULL);
  }
  struct chain chain = {0};
  chain_grow_by(&chain, kMiB, 1000);
  chain_drop(&chain);
  return 0;
}
