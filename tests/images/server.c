/* What a container runs: holds 32 MiB in small blocks, says so, and tells of each signal until SIGTERM, which it ends with
 * status 7. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kBlocks = 8192, kBlockBytes = 4096, kStatus = 7 };

static void* blocks[kBlocks];

int main(void) {
  sigset_t awaited;
  sigemptyset(&awaited);
  sigaddset(&awaited, SIGHUP);
  sigaddset(&awaited, SIGUSR1);
  sigaddset(&awaited, SIGTERM);
  sigprocmask(SIG_BLOCK, &awaited, NULL);
  for (size_t i = 0; i < kBlocks; ++i) {
    blocks[i] = malloc(kBlockBytes);
    if (blocks[i] == NULL) return 1;
    memset(blocks[i], 1, kBlockBytes);
  }
  printf("pid %d uid %d gid %d\n", (int)getpid(), (int)getuid(), (int)getgid());
  fflush(stdout);
  for (;;) {
    int got = 0;
    if (sigwait(&awaited, &got) != 0) return 1;
    printf("got %d\n", got);
    fflush(stdout);
    if (got == SIGTERM) break;
  }
  for (size_t i = 0; i < kBlocks; ++i) free(blocks[i]);
  return kStatus;
}
