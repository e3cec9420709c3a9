/* A program started with standard error closed opens its data file as descriptor 2. Warnings of ours must not end up
 * in it. The first stage closes 0-2 and starts itself again; the second goes far over its limit. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "check.h"

int main(int argc, char** argv) {
  if (argc == 1) {
    char* arguments[] = {argv[0], "2", NULL};
    for (int fd = 0; fd <= 2; ++fd) close(fd);
    execv(argv[0], arguments);
    _exit(10);
  }
  char path[] = "data-file-XXXXXX";
  for (int fd = 0; fd < 2; ++fd) {
    if (open("/dev/null", O_RDWR) != fd) _exit(11);
  }
  if (mkstemp(path) != 2) _exit(12);
  if (unlink(path) != 0) _exit(13);
  void* blocks[200];
  for (int i = 0; i < 200; ++i) {
    blocks[i] = malloc(1 << 20);
    if (blocks[i] == NULL) _exit(14);
    *(volatile char*)blocks[i] = 1;
  }
  if (memlimit_is_loaded()) memlimit_reclaim(0);
  for (int i = 0; i < 200; ++i) free(blocks[i]);
  struct stat status;
  if (fstat(2, &status) != 0) _exit(15);
  if (status.st_size != 0) _exit(16);
  return 0;
}
