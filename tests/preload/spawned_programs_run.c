/* vfork with exec, posix_spawn, system and popen work from a program whose other threads are allocating; the spawned
 * program has the library too. */
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "check.h"

extern char** environ;
static int stop;

static void* churn(void* seed) {
  uint64_t random = (uint64_t)(uintptr_t)seed;
  void* shelf[64] = {0};
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    const uint64_t place = next_random(&random) % 64;
    free(shelf[place]);
    shelf[place] = malloc(next_random(&random) % 20000);
    CHECK(shelf[place] != NULL);
  }
  for (int i = 0; i < 64; ++i) free(shelf[i]);
  return NULL;
}

static void check_child(pid_t child) {
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

int main(int argc, char** argv) {
  if (argc > 1) { /* the spawned program */
    free(malloc(opaque_size(100000)));
    return memlimit_is_loaded() == (argv[1][0] == '1') ? 0 : 1;
  }
  char* child_arguments[] = {argv[0], memlimit_is_loaded() ? "1" : "0", NULL};
  pthread_t threads[2];
  for (uintptr_t i = 0; i < 2; ++i)
    CHECK_EQ(pthread_create(&threads[i], NULL, churn, (void*)(i + 1)), 0);
  for (int i = 0; i < 30; ++i) {
    const pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
      execv(child_arguments[0], child_arguments);
      _exit(127);
    }
    check_child(child);

    pid_t spawned = 0;
    CHECK_EQ(posix_spawn(&spawned, child_arguments[0], NULL, NULL, child_arguments, environ), 0);
    check_child(spawned);
  }
  for (int i = 0; i < 5; ++i) {
    CHECK_EQ(system("exit 0"), 0);
    FILE* stream = popen("echo out", "r");
    CHECK(stream != NULL);
    char word[8];
    CHECK(fgets(word, sizeof word, stream) != NULL);
    CHECK_EQ(pclose(stream), 0);
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < 2; ++i) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  return 0;
}
