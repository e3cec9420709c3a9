/* Where the kernel refuses new threads and sockets (a sandbox), a program over its limit goes on without a service
 * thread: no crash, no hang, statistics still answer. The filter fails the calls with EAGAIN and EPERM. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "check.h"

#define REFUSE(number, error)                          \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))

static void refuse_threads_and_sockets(void) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      REFUSE(SYS_clone, EAGAIN),
      REFUSE(SYS_clone3, EAGAIN),
      REFUSE(SYS_socket, EPERM),
      REFUSE(SYS_socketpair, EPERM),
      REFUSE(SYS_eventfd2, EMFILE),
      REFUSE(SYS_epoll_create1, EMFILE),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) SKIP("no_new_privs cannot be set");
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) SKIP("no seccomp filters here");
}

static int hook_calls;
static int64_t reclaim(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  ++hook_calls;
  return 0;
}

int main(void) {
  refuse_threads_and_sockets();
  void* blocks[300];
  if (memlimit_is_loaded()) {
    memlimit_hook_id id = 0;
    const struct memlimit_hook hook = {sizeof hook, "idle", MEMLIMIT_ASYNC, reclaim, NULL};
    const int status = memlimit_hook_add(&hook, &id);
    CHECK(status <= 0);
  }
  for (int turn = 0; turn < 3; ++turn) {
    for (int i = 0; i < 300; ++i) {
      blocks[i] = malloc(100000);
      CHECK(blocks[i] != NULL);
      memset(blocks[i], 1, 100000);
    }
    if (memlimit_is_loaded()) {
      CHECK(stats_now().heap_alloc >= 30000000);
      memlimit_set(1 << 20);
    }
    for (int i = 0; i < 300; ++i) free(blocks[i]);
  }
  if (memlimit_is_loaded()) CHECK(memlimit_poll_fd() < 0);
  return 0;
}
