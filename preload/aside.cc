/* What the kernel does for single threads only, or for the calling thread alone: the service thread steps aside before.
 *
 * unshare() of a user namespace and setns() fail in a process of two threads. Privileges that one thread gives up the
 * other would keep; and where they differ, glibc's setuid(), which has each thread do it, ends the process. mlockall()
 * would lock the thread's stack. The thread comes back later with what its creator has then. fork() is in lib/start.cc's
 * table.
 *
 * Not seen: the same by syscall(). seccomp() and landlock_restrict_self() have no function in libc, but need
 * PR_SET_NO_NEW_PRIVS before, as a user.
 * Threads: all, in any context, also in a signal handler and between fork and exec. No lock is waited for.
 */
#include <cstdarg>

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/service.h"
#include "system/attributes.h"

using namespace memlimit;

namespace {

bool gives_up_privileges(int option) noexcept {
  switch (option) {
    case PR_SET_NO_NEW_PRIVS:
    case PR_SET_SECCOMP:
    case PR_SET_SECUREBITS:
    case PR_SET_KEEPCAPS:
    case PR_CAPBSET_DROP:
    case PR_CAP_AMBIENT:
      return true;
    default:
      return false;
  }
}

}  // namespace

extern "C" {

MEMLIMIT_EXPORT int unshare(int flags) noexcept {
  service::leave_single_thread();
  return static_cast<int>(syscall(SYS_unshare, flags));
}

MEMLIMIT_EXPORT int setns(int descriptor, int kind) noexcept {
  service::leave_single_thread();
  return static_cast<int>(syscall(SYS_setns, descriptor, kind));
}

MEMLIMIT_EXPORT int capset(cap_user_header_t header, cap_user_data_t data) noexcept {
  service::step_aside();
  return static_cast<int>(syscall(SYS_capset, header, data));
}

MEMLIMIT_EXPORT int mlockall(int flags) noexcept {
  service::step_aside();
  return static_cast<int>(syscall(SYS_mlockall, flags));
}

/* As glibc's: all of them are read, whatever the caller gave. */
MEMLIMIT_EXPORT int prctl(int option, ...) noexcept {
  unsigned long arguments[4];
  va_list list;
  va_start(list, option);
  for (unsigned long& argument : arguments) argument = va_arg(list, unsigned long);
  va_end(list);
  if (gives_up_privileges(option)) service::step_aside();
  return static_cast<int>(
      syscall(SYS_prctl, option, arguments[0], arguments[1], arguments[2], arguments[3]));
}

}  // extern "C"
