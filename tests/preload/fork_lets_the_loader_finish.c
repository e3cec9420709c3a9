/* Where libraries are loaded, memlimit's own thread walks the loader's list of them, and the loader holds a lock
 * meanwhile that nobody gives back in the child of a fork: the child's next dlopen would wait for ever. So fork waits
 * for the walk. argv[1]: a module to load. */
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "check.h"

enum { kForks = 20, kWalkMicroseconds = 5000 };
static _Atomic int walking;

/* In the place of libc's: takes its time, on memlimit's thread. */
int dl_iterate_phdr(int (*visit)(struct dl_phdr_info*, size_t, void*), void* argument) {
  int (*real)(int (*)(struct dl_phdr_info*, size_t, void*), void*) = NULL;
  *(void**)&real = dlsym(RTLD_NEXT, "dl_iterate_phdr");
  const int waits = gettid() != getpid();
  if (waits) {
    walking = 1;
    usleep(kWalkMicroseconds);
  }
  const int result = real(visit, argument);
  if (waits) walking = 0;
  return result;
}

static void load_and_wait_for_walk(const char* module) {
  void* const handle = dlopen(module, RTLD_NOW);
  CHECK(handle != NULL);
  CHECK_EQ(dlclose(handle), 0);
  while (!walking) free(opaque(malloc(100000)));
}

int main(int argc, char** argv) {
  need_library();
  CHECK_EQ(argc, 2);
  settle();
  int walked = 0;
  for (int i = 0; i < kForks; ++i) {
    load_and_wait_for_walk(argv[1]);
    const pid_t child = fork();
    if (child == 0) _exit(walking);
    CHECK(child > 0);
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    walked += WEXITSTATUS(status);
  }
  /* On a busy machine a walk may take longer than fork waits. */
  CHECK(walked <= kForks / 2);
  return 0;
}
