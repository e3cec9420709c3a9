/* A thread that is in the middle of looking through what exited threads left behind when another one forks stays counted in
 * mimalloc 2.0, which waits for it for ever in the child. Here it is held there: what it is about to read, the head of an
 * exited thread's segment, is taken from it until the fork is over. The child then gives memory back. */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"

enum { kPageBytes = 4096, kHangGuardSeconds = 60, kMostTries = 100 };
static const size_t kSegmentBytes = (size_t)32 << 20;
static const size_t kHugeBytes = (size_t)64 << 20;

static void* segment;
static atomic_bool held;
static atomic_bool forked;
static atomic_bool done;

/* In the place of libc's. memlimit's own thread blocks every signal: it may be the one that reads there, and a fault
 * whose signal is blocked ends the process. */
int sigfillset(sigset_t* set) {
  memset(set, 0xff, sizeof *set);
  return sigdelset(set, SIGSEGV);
}

static void wait_for(atomic_bool* condition) {
  while (!atomic_load(condition)) usleep(1000);
}

static void give_access_back(void) {
  CHECK_EQ(mprotect(segment, kPageBytes, PROT_READ | PROT_WRITE), 0);
}

/* Returns to the instruction that was held. */
static void hold(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  const uintptr_t at = (uintptr_t)info->si_addr;
  CHECK(at >= (uintptr_t)segment && at < (uintptr_t)segment + kPageBytes);
  atomic_store(&held, true);
  wait_for(&forked);
}

static void* leave_a_block(void* block) {
  *(void**)block = malloc(100);
  return NULL;
}

static void* look_for_memory(void* ignored) {
  (void)ignored;
  free(malloc(2000));
  atomic_store(&done, true);
  return NULL;
}

static void give_memory_back(void) {
  alarm(kHangGuardSeconds);
  give_access_back();
  free(malloc(kHugeBytes));
  malloc_trim(0);
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, NULL, look_for_memory, NULL), 0);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  _exit(0);
}

int main(void) {
  need_library();
#if !defined(__x86_64__)
  SKIP("such readers are known on x86-64 only");
#endif
  int (*version)(void);
  *(void**)&version = dlsym(RTLD_DEFAULT, "mi_version");
  CHECK(version != NULL);
  const struct sigaction action = {.sa_sigaction = hold, .sa_flags = SA_SIGINFO};
  CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
  void* block = NULL;
  pthread_t thread;
  /* memlimit's own thread may have taken the segment over before: then nobody looks at it there. */
  for (int tries = 0; tries < kMostTries; ++tries) {
    CHECK_EQ(pthread_create(&thread, NULL, leave_a_block, &block), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    segment = (void*)((uintptr_t)block / kSegmentBytes * kSegmentBytes);
    CHECK_EQ(mprotect(segment, kPageBytes, PROT_NONE), 0);
    atomic_store(&done, false);
    CHECK_EQ(pthread_create(&thread, NULL, look_for_memory, NULL), 0);
    while (!atomic_load(&held) && !atomic_load(&done)) usleep(1000);
    if (atomic_load(&held) || version() >= 210) break;
    give_access_back();
    CHECK_EQ(pthread_join(thread, NULL), 0);
    free(block);
  }
  if (version() < 210) CHECK(atomic_load(&held));

  const pid_t child = fork();
  if (child == 0) give_memory_back();
  give_access_back();
  atomic_store(&forked, true);
  CHECK(child > 0);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  free(block);
  return 0;
}
