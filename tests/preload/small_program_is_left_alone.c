/* A program that stays small has one thread, the descriptors it was given and no more, no socket and no children of
 * ours, with a limit set too; its signal mask and handlers are as they were. */
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>

#include "check.h"

static int count_entries(const char* path) {
  DIR* directory = opendir(path);
  if (directory == NULL) SKIP("no /proc here");
  int count = 0;
  for (const struct dirent* entry; (entry = readdir(directory)) != NULL;)
    count += entry->d_name[0] != '.';
  closedir(directory);
  return count;
}

int main(void) {
  char* kept[100];
  for (int i = 0; i < 100000; ++i) { /* small, but busy: 50 MB pass through */
    char* block = malloc(500);
    CHECK(block != NULL);
    block[0] = 1;
    if (i < 100) {
      kept[i] = block;
    } else {
      free(block);
    }
  }
  CHECK_EQ(count_entries("/proc/self/task"), 1);
  CHECK_EQ(count_entries("/proc/self/fd"), 3 + 1); /* and the one that reads the directory */
  sigset_t mask;
  CHECK_EQ(sigprocmask(SIG_SETMASK, NULL, &mask), 0);
  for (int number = 1; number < 32; ++number) {
    struct sigaction action;
    CHECK(sigismember(&mask, number) == 0);
    if (sigaction(number, NULL, &action) != 0) continue;
    /* That a signal is ignored may come from whoever started the tests; a handler cannot. */
    CHECK(action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN);
  }
  for (int i = 0; i < 100; ++i) free(kept[i]);
  return 0;
}
