/* Where libraries are loaded, memlimit's own thread walks the loader's list of them, and the loader holds a lock
 * meanwhile that nobody gives back in the child of a fork: the child's next dlopen would wait for ever. So fork waits
 * for the walk, though not for ever. argv[1]: a module to load. */
#include <dlfcn.h>
#include <link.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"

/* The last: how long fork waits for a walk that does not end, from engine/fork.cc. */
enum { kForks = 20, kPatienceMs = 50 };

/* A walk that begins while a fork is planned does not end before that fork waits or is over. */
static _Atomic int planned, walking, forking;

static int64_t now_ms(void) {
  struct timespec now;
  CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &now), 0);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* In the place of libc's: takes its time, on memlimit's thread. */
int dl_iterate_phdr(int (*visit)(struct dl_phdr_info*, size_t, void*), void* argument) {
  int (*real)(int (*)(struct dl_phdr_info*, size_t, void*), void*) = NULL;
  *(void**)&real = dlsym(RTLD_NEXT, "dl_iterate_phdr");
  const int waits = gettid() != getpid() && planned;
  if (waits) {
    walking = 1;
    while (planned) sched_yield();
    while (forking && thread_state(getpid()) != 'S') sched_yield();
  }
  const int result = real(visit, argument);
  if (waits) walking = 0;
  return result;
}

static void load_until_walked(const char* module) {
  while (walking) sched_yield();
  planned = 1;
  while (!walking) {
    void* const handle = dlopen(module, RTLD_NOW);
    CHECK(handle != NULL);
    CHECK_EQ(dlclose(handle), 0);
    free(opaque(malloc(100000)));
  }
}

int main(int argc, char** argv) {
  need_library();
  CHECK_EQ(argc, 2);
  settle();
  for (int i = 0; i < kForks; ++i) {
    load_until_walked(argv[1]);
    const int64_t began_ms = now_ms();
    forking = 1;
    planned = 0;
    const pid_t child = fork();
    /* A walk that goes on is one that fork has waited for long enough: on a busy machine. */
    if (child == 0) _exit(walking && now_ms() - began_ms < kPatienceMs - 1);
    forking = 0;
    CHECK(child > 0);
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
  return 0;
}
