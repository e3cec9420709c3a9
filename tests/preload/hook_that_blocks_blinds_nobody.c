/* While an ASYNC hook blocks, the socket answers, the limit can be set through it, and the hook is named with the time it
 * has taken; other hooks are asked without it. When it returns, one thread serves again. First argument: the socket. */
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/prctl.h>

#include "ask_socket.h"
#include "blocks.h"
#include "threads.h"

enum { kSpareBlocks = 40, kSpareBytes = 100000 };

static sem_t entered, may_leave;
static _Atomic int other_calls;

static int64_t block(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  sem_post(&entered);
  while (sem_wait(&may_leave) != 0) {
  }
  return 0;
}

static void* spare[kSpareBlocks];

/* Who gives is asked again. */
static int64_t give(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  const int call = other_calls++;
  if (call >= kSpareBlocks) return 0;
  free(spare[call]);
  return kSpareBytes;
}

int main(int argc, char** argv) {
  need_library();
  CHECK(argc == 2);
  socket_path = argv[1];
  CHECK_EQ(sem_init(&entered, 0, 0), 0);
  CHECK_EQ(sem_init(&may_leave, 0, 0), 0);
  const struct memlimit_hook blocks = {sizeof blocks, "my cache", MEMLIMIT_ASYNC, block, NULL};
  const struct memlimit_hook other = {sizeof other, "other", MEMLIMIT_INLINE, give, NULL};
  memlimit_hook_id id, other_id;
  CHECK_EQ(memlimit_hook_add(&blocks, &id), 0);
  CHECK_EQ(memlimit_hook_add(&other, &other_id), 0);
  for (int i = 0; i < kSpareBlocks; ++i) CHECK((spare[i] = malloc(kSpareBytes)) != NULL);
  struct chain chain = {0};
  chain_grow_by(&chain, 11 * kMiB, 10 * kKiB);
  while (sem_wait(&entered) != 0) {
  }

  for (int i = 0; i < 3; ++i) CHECK_EQ(ask_stat("hooks_running"), 1);
  while (ask_stat("hook_overruns") == 0) usleep(1000);
  CHECK(ask_stat("hook_running_ns") > 100000000);
  CHECK(strstr(ask_socket("status\n"), "HookRuns:\tmy cache for ") != NULL);
  CHECK(strstr(ask_socket("hooks\n"), "\nmy_cache async ") != NULL);
  CHECK(strstr(ask_socket("metrics\n"), "memlimit_by_hook_running") != NULL);
  CHECK_EQ(count_threads(), 3);

  /* The limit, and rounds that do not wait for the hook. */
  CHECK(strstr(ask_socket("limit=24MiB\n"), "error") == NULL);
  CHECK_EQ(memlimit_get(), 24 * kMiB);
  const int calls_before = other_calls;
  while (other_calls < calls_before + 2) {
    CHECK(stats_now().heap_alloc < 22 * kMiB);
    chain_grow_by(&chain, 20 * kKiB, 10 * kKiB);
    CHECK_EQ(ask_stat("hooks_running"), 1);
  }

  sem_post(&may_leave);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  CHECK_EQ(ask_stat("hooks_running"), 0);
  CHECK_EQ(ask_stat("hook_running_ns"), 0);
  CHECK(ask_stat("hook_overruns") >= 1);
  CHECK_EQ(count_threads(), 3);

  /* Both step aside, and the one comes back that is needed. */
  CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  CHECK_EQ(count_threads(), 1);
  while (count_threads() < 2) poll(NULL, 0, 1);
  CHECK_EQ(count_threads(), 2);
  CHECK(ask_stat("rounds") > 0);
  chain_drop(&chain);
  return 0;
}
