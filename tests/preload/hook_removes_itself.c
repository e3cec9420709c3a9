/* A hook that removes itself does not wait for itself; it runs to its end and is never called again. It may also remove
 * another hook of the same round, and add one in its place. */
#include "blocks.h"

static _Atomic int own_calls, other_calls, new_calls;
static memlimit_hook_id own_id, other_id, new_id;

static int64_t count_call(const struct memlimit_request* request, void* argument) {
  (void)request;
  ++*(_Atomic int*)argument;
  return 0;
}

static int64_t remove_self(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  CHECK_EQ(own_calls++, 0);
  CHECK_EQ(memlimit_hook_remove(own_id), 0);
  CHECK_EQ(memlimit_hook_remove(own_id), -ENOENT);
  CHECK_EQ(memlimit_hook_remove(other_id), 0);
  const struct memlimit_hook hook = {sizeof hook, "new", MEMLIMIT_ASYNC, count_call, &new_calls};
  CHECK_EQ(memlimit_hook_add(&hook, &new_id), 0);
  return 0;
}

int main(void) {
  need_library();
  const struct memlimit_hook self = {sizeof self, "self", MEMLIMIT_ASYNC, remove_self, NULL};
  const struct memlimit_hook other = {sizeof other, "other", MEMLIMIT_ASYNC, count_call,
                                      &other_calls};
  CHECK_EQ(memlimit_hook_add(&self, &own_id), 0);
  CHECK_EQ(memlimit_hook_add(&other, &other_id), 0);
  memlimit_reclaim(0);
  CHECK_EQ(own_calls, 1);
  const int other_before =
      other_calls; /* 0 or 1: which of the two came first is the library's business */
  CHECK(other_before <= 1);
  for (int i = 0; i < 10; ++i) memlimit_reclaim(0);
  CHECK_EQ(own_calls, 1);
  CHECK_EQ(other_calls, other_before);
  CHECK(new_calls >= 10);
  CHECK_EQ(memlimit_hook_remove(own_id), -ENOENT);
  CHECK_EQ(memlimit_hook_remove(other_id), -ENOENT);
  CHECK_EQ(memlimit_hook_remove(new_id), 0);
  return 0;
}
