/* memlimit_set answers with the limit that was in force, 0 for none; zero and negative numbers turn it off;
 * memlimit_get and the statistics agree. */
#include "blocks.h"

int main(void) {
  need_library();
  CHECK_EQ(memlimit_get(), 0);
  CHECK_EQ(memlimit_set(100 * kMiB), 0);
  CHECK_EQ(memlimit_get(), 100 * kMiB);
  struct memlimit_stats stats = stats_now();
  CHECK_EQ(stats.limit, 100 * kMiB);
  CHECK(stats.headroom > 90 * kMiB && stats.headroom <= 100 * kMiB);
  CHECK_EQ(memlimit_set(INT64_MAX), 100 * kMiB);
  CHECK_EQ(memlimit_get(), INT64_MAX);
  CHECK_EQ(memlimit_set(1), INT64_MAX); /* absurdly low is legal: it is soft */
  struct chain chain = {0};
  chain_grow_by(&chain, 8 * kMiB, 4 * kKiB);
  chain_drop(&chain);
  CHECK_EQ(memlimit_set(0), 1);
  CHECK_EQ(memlimit_get(), 0);
  CHECK_EQ(stats_now().limit, 0);
  CHECK_EQ(stats_now().headroom, 0);
  CHECK_EQ(memlimit_set(50 * kMiB), 0);
  CHECK_EQ(memlimit_set(-1), 50 * kMiB);
  CHECK_EQ(memlimit_get(), 0);
  CHECK_EQ(memlimit_set(INT64_MIN), 0);
  CHECK_EQ(memlimit_get(), 0);
  return 0;
}
