/* The service thread has a small stack until there is a hook to call: that finds room for what a program's own threads may
 * use. While no such stack can be had the hook is not called, and nothing is lost; and no thread is in the way of what only a
 * single one may do, not even while one makes place for the other. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "blocks.h"
#include "threads.h"

enum { kUsedBytes = 600 * kKiB, kSmallBytes = 400 * kKiB };

static int calls;
static size_t stack_bytes;

static size_t own_stack_bytes(void) {
  pthread_attr_t attributes;
  void* lowest = NULL;
  size_t bytes = 0;
  CHECK_EQ(pthread_getattr_np(pthread_self(), &attributes), 0);
  CHECK_EQ(pthread_attr_getstack(&attributes, &lowest, &bytes), 0);
  CHECK_EQ(pthread_attr_destroy(&attributes), 0);
  return bytes;
}

static int64_t reclaim(const struct memlimit_request* request, void* argument) {
  char used[kUsedBytes];
  memset(opaque(used), (int)request->round, sizeof used);
  stack_bytes = own_stack_bytes();
  CHECK(argument == &calls);
  __atomic_fetch_add(&calls, 1, __ATOMIC_ACQ_REL);
  return 0;
}

static size_t address_space(void) {
  unsigned long long pages = 0;
  FILE* const file = fopen("/proc/self/statm", "re");
  CHECK(file != NULL);
  CHECK_EQ(fscanf(file, "%llu", &pages), 1);
  fclose(file);
  return (size_t)pages * 4096;
}

static memlimit_hook_id add_hook(void) {
  const struct memlimit_hook hook = {sizeof hook, "probe", MEMLIMIT_ASYNC, reclaim, &calls};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  return id;
}

/* It has come, at a wait for events, or come again. */
static void bring_service(void) {
  while (count_threads() < 2) poll(NULL, 0, 1);
}

static void call_hook(void) {
  const int before = __atomic_load_n(&calls, __ATOMIC_ACQUIRE);
  while (__atomic_load_n(&calls, __ATOMIC_ACQUIRE) == before) {
    memlimit_reclaim(0);
    poll(NULL, 0, 1);
  }
}

static void room_comes_with_the_first_hook(void) {
  bring_service();
  const size_t before = address_space();
  const memlimit_hook_id id = add_hook();
  call_hook();
  CHECK(stack_bytes > kUsedBytes);
  CHECK(address_space() - before > kSmallBytes);
  CHECK_EQ(memlimit_hook_remove(id), 0);
}

static void where_none_can_be_had_it_comes_later(void) {
  bring_service();
  struct rlimit limit;
  CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
  const struct rlimit tight = {address_space() + kSmallBytes, limit.rlim_max};
  CHECK_EQ(setrlimit(RLIMIT_AS, &tight), 0);
  const memlimit_hook_id id = add_hook();
  for (int i = 0; i < 20; ++i) {
    memlimit_reclaim(0);
    poll(NULL, 0, 1);
  }
  CHECK_EQ(__atomic_load_n(&calls, __ATOMIC_ACQUIRE), 0);
  CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  call_hook();
  CHECK(stack_bytes > kUsedBytes);
  CHECK_EQ(memlimit_hook_remove(id), 0);
}

/* In the very moment in which one thread makes place for the other. */
static void a_single_thread_is_had_meanwhile(void) {
  bring_service();
  const memlimit_hook_id id = add_hook();
  if (unshare(CLONE_NEWUSER) != 0) {
    CHECK(errno == EPERM || errno == ENOSPC);
  } else {
    CHECK_EQ(count_threads(), 1);
  }
  call_hook();
  CHECK_EQ(memlimit_hook_remove(id), 0);
}

static void in_child(void (*body)(void)) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    body();
    exit(0);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

int main(void) {
  need_library();
  in_child(room_comes_with_the_first_hook);
  in_child(where_none_can_be_had_it_comes_later);
  for (int i = 0; i < 20; ++i) in_child(a_single_thread_is_had_meanwhile);
  return 0;
}
