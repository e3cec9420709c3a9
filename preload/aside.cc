/* What the kernel does for single threads only, or for the calling thread alone: the service thread steps aside before.
 *
 * unshare() of a user namespace and setns() fail in a process of two threads. Privileges that one thread gives up the
 * other would keep; and where they differ, glibc's setuid(), which has each thread do it, ends the process. mlockall()
 * would lock the thread's stack. The thread comes back later with what its creator has then.
 *
 * fork() looks whether libc takes this for a process of one thread before it runs anybody's handlers: that is why it is here,
 * too. Who comes to libc's in another way (daemon, forkpty) finds the thread gone by the handler in lib/start.cc's table.
 *
 * Not seen: the same by syscall(). seccomp() and landlock_restrict_self() have no function in libc, but need
 * PR_SET_NO_NEW_PRIVS before, as a user.
 * Threads: all, in any context, also in a signal handler and between fork and exec. No lock is waited for.
 */
#include "aside.h"

#include <cstdarg>

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atfork.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "system/attributes.h"

using namespace memlimit;

constinit NextSymbol aside::real_fork{"fork"};

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

using Fork = pid_t (*)() noexcept;

/* What the program's own handlers allocate meanwhile starts no thread: libc has looked already. */
MEMLIMIT_COLD pid_t fork_with_handlers(Fork real) noexcept {
  ReentryGuard reentry;
  return real();
}

}  // namespace

extern "C" {

/* Ends in a jump, which a function that may throw would not: the child comes back to its caller, and reads no page of ours for
 * that. */
MEMLIMIT_EXPORT pid_t fork() noexcept {
  service::leave_single_thread();
  if (aside::real_fork.address == nullptr) aside::real_fork.find();
  const auto real = reinterpret_cast<Fork>(aside::real_fork.address);
  return MEMLIMIT_UNLIKELY(atfork::others_prepare()) ? fork_with_handlers(real) : real();
}

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
