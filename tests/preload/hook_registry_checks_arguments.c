/* memlimit_hook_add refuses what it cannot call and leaves the id alone; slots run out with -ENOSPC and come back with
 * memlimit_hook_remove; a removed hook is -ENOENT, and no id is used twice. */
#include "blocks.h"

enum { kSlots = 64 };

static int64_t reclaim(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  return 0;
}

static void check_refused(const struct memlimit_hook* hook) {
  memlimit_hook_id id = 4711;
  CHECK_EQ(memlimit_hook_add(hook, &id), -EINVAL);
  CHECK_EQ(id, 4711);
}

int main(void) {
  need_library();
  const struct memlimit_hook good = {sizeof good, "good", MEMLIMIT_POLL, reclaim, NULL};
  struct memlimit_hook bad = good;
  check_refused(NULL);
  CHECK_EQ(memlimit_hook_add(&good, NULL), -EINVAL);
  bad.size = 8;
  check_refused(&bad);
  bad = good;
  bad.name = NULL;
  check_refused(&bad);
  bad.name = "";
  check_refused(&bad);
  bad = good;
  bad.context = 17;
  check_refused(&bad);
  bad.context = -1;
  check_refused(&bad);
  bad = good;
  bad.reclaim = NULL;
  check_refused(&bad);

  const int64_t hooks_at_start = stats_now().hooks;
  memlimit_hook_id ids[kSlots + 1];
  int count = 0;
  int status = 0;
  for (; count <= kSlots; ++count) {
    ids[count] = 4711;
    status = memlimit_hook_add(&good, &ids[count]);
    if (status != 0) break;
    CHECK(ids[count] != 0);
    for (int i = 0; i < count; ++i) CHECK(ids[i] != ids[count]);
  }
  CHECK_EQ(status, -ENOSPC);
  CHECK_EQ(ids[count], 4711);
  CHECK(count >= kSlots - 8); /* some belong to memlimit itself */
  CHECK_EQ(stats_now().hooks, hooks_at_start + count);

  const memlimit_hook_id old_id = ids[count / 2];
  CHECK_EQ(memlimit_hook_remove(old_id), 0);
  CHECK_EQ(memlimit_hook_remove(old_id), -ENOENT);
  CHECK_EQ(memlimit_hook_remove(0), -ENOENT);
  CHECK_EQ(memlimit_hook_remove(UINT64_MAX), -ENOENT);
  CHECK_EQ(memlimit_hook_add(&good, &ids[count / 2]), 0);
  CHECK(ids[count / 2] != old_id);
  CHECK_EQ(memlimit_hook_remove(old_id), -ENOENT);
  for (int i = 0; i < count; ++i) CHECK_EQ(memlimit_hook_remove(ids[i]), 0);
  CHECK_EQ(stats_now().hooks, hooks_at_start);

  char long_name[200];
  memset(long_name, 'n', sizeof long_name - 1);
  long_name[sizeof long_name - 1] = '\0';
  bad = good;
  bad.name = long_name; /* cut off, not refused */
  CHECK_EQ(memlimit_hook_add(&bad, &ids[0]), 0);
  CHECK_EQ(memlimit_hook_remove(ids[0]), 0);
  return 0;
}
