/* What a process can do as a single thread only, or for one thread, it does as without the library, whenever it does it: with
 * the service thread up, and again when the thread has come back. */
#include <dirent.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "blocks.h"
#include "threads.h"

/* libc has it and no header of it. */
extern int capset(cap_user_header_t header, cap_user_data_t data);

/* It has come, or come back: at a wait for events. */
static void bring_service(void) {
  while (count_threads() < 2) poll(NULL, 0, 1);
}

static void in_child(void (*body)(void)) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    bring_service();
    body();
    exit(0);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kSkippedStatus) SKIP("this machine refuses");
  CHECK_EQ(status, 0);
}

/* A new user namespace needs a single thread; EPERM and ENOSPC are the machine's own. */
static void unshare_user(void) {
  if (unshare(CLONE_NEWUSER) != 0) {
    CHECK(errno == EPERM || errno == ENOSPC);
    SKIP("no user namespaces");
  }
  CHECK_EQ(count_threads(), 1);
  bring_service();
}

/* "CapEff:" of every thread, and "NoNewPrivs:". */
static void check_all_threads(const char* key, unsigned long long value) {
  DIR* const tasks = opendir("/proc/self/task");
  CHECK(tasks != NULL);
  const struct dirent* task;
  while ((task = readdir(tasks)) != NULL) {
    char path[300], line[200];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
    FILE* const status = task->d_name[0] == '.' ? NULL : fopen(path, "re");
    if (status == NULL) continue;
    while (fgets(line, sizeof line, status) != NULL) {
      if (strncmp(line, key, strlen(key)) == 0)
        CHECK_EQ(strtoull(line + strlen(key), NULL, 16), value);
    }
    fclose(status);
  }
  closedir(tasks);
}

static void give_up_privileges(void) {
  CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  check_all_threads("NoNewPrivs:", 1);
  bring_service();
  check_all_threads("NoNewPrivs:", 1);
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
  CHECK_EQ(capset(&header, none), 0);
  check_all_threads("CapEff:", 0);
  bring_service();
  check_all_threads("CapEff:", 0);
}

/* As setpriv does: capabilities are kept over the change of the user, and used after it. Where the threads' differ, glibc ends
 * the process. */
static void change_user(void) {
  if (geteuid() != 0) SKIP("not root");
  CHECK_EQ(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), 0);
  CHECK_EQ(setresgid(65534, 65534, 65534), 0);
  CHECK_EQ(setresuid(65534, 65534, 65534), 0);
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct own[2];
  CHECK_EQ(syscall(SYS_capget, &header, own), 0);
  own[0].effective = own[0].permitted;
  CHECK_EQ(capset(&header, own), 0);
  CHECK_EQ(setresgid(65533, 65533, 65533), 0);
  bring_service();
  CHECK_EQ(setresgid(65532, 65532, 65532), 0);
}

/* For the parent too, who waits in a way that the library does not see. */
static void fork_children(void) {
  for (int i = 0; i < 5; ++i) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(count_threads() == 1 ? 0 : kFailedStatus);
    int status = 0;
    CHECK_EQ(syscall(SYS_wait4, child, &status, 0, NULL), child);
    CHECK_EQ(status, 0);
  }
  CHECK_EQ(count_threads(), 2);
}

int main(void) {
  need_library();
  struct chain chain = {0};
  chain_grow_by(&chain, 8 * kMiB, 10 * kKiB);
  bring_service();
  in_child(fork_children);
  in_child(give_up_privileges);
  in_child(change_user);
  in_child(unshare_user);
  chain_drop(&chain);
  return 0;
}
