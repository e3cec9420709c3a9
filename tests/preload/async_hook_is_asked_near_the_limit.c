/* An async hook is left alone far from the limit, and asked once usage nears it: on the service thread, whose signals
 * are all blocked, with a request that names the limit, a usage, a level, a deadline and a round. */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>

#include "blocks.h"

static sem_t called;
static int calls;
static struct memlimit_request first_request;
static char thread_name[16];
static int thread_id;
static int open_signals;

static int64_t reclaim(const struct memlimit_request* request, void* argument) {
  CHECK(argument == &calls);
  if (__atomic_fetch_add(&calls, 1, __ATOMIC_ACQ_REL) == 0) {
    CHECK(request->size >= sizeof first_request);
    memcpy(&first_request, request, sizeof first_request);
    thread_id = (int)syscall(SYS_gettid);
    pthread_getname_np(pthread_self(), thread_name, sizeof thread_name);
    sigset_t mask;
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    for (int number = 1; number < 32; ++number) {
      if (number != SIGKILL && number != SIGSTOP && sigismember(&mask, number) == 0) ++open_signals;
    }
    sem_post(&called);
  }
  return 0;
}

int main(void) {
  need_library();
  CHECK_EQ(sem_init(&called, 0, 0), 0);
  CHECK_EQ(memlimit_get(), 64 * kMiB);
  const struct memlimit_hook hook = {sizeof hook, "probe", MEMLIMIT_ASYNC, reclaim, &calls};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  CHECK(id != 0);

  struct chain chain = {0};
  chain_grow_by(&chain, 20 * kMiB, 64 * kKiB); /* reclaim begins at half of the limit */
  CHECK_EQ(__atomic_load_n(&calls, __ATOMIC_ACQUIRE), 0);
  CHECK_EQ(stats_now().level, MEMLIMIT_LOW);
  chain_grow_by(&chain, 42 * kMiB, 64 * kKiB);
  while (sem_wait(&called) != 0) {
  }
  CHECK_EQ(first_request.limit_bytes, 64 * kMiB);
  CHECK(first_request.wanted_bytes > 0);
  CHECK(first_request.usage_bytes > 30 * kMiB);
  CHECK(first_request.level >= MEMLIMIT_LOW && first_request.level <= MEMLIMIT_OVER);
  CHECK(first_request.deadline_ns > 0);
  CHECK(first_request.round >= 1);
  CHECK(thread_id != getpid());
  CHECK(strcmp(thread_name, "memlimit") == 0);
  CHECK_EQ(open_signals, 0);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  chain_drop(&chain);
  return 0;
}
