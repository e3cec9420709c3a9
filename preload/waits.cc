/* poll, select, epoll_wait, accept and sleep as the program calls them: who comes to one has set up what it sets up, and may
 * not allocate again for a long time. So a service thread that is awaited (service.h) starts here. One load and a jump where
 * none is.
 *
 * Waits for children and signals count where the thread was there before: who does nothing else is a wrapper (timeout,
 * tini, a shell), and the program behind it is the one to be asked.
 *
 * Cancellation unwinds through these frames where the compiler has kept them: none is noexcept, none holds anything.
 * Threads: all, in any context: these may be called in signal handlers, and between fork and exec.
 */
#include "waits.h"

#include <csignal>
#include <ctime>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aside.h"
#include "engine/service.h"
#include "next_function.h"
#include "semaphores.h"
#include "system/attributes.h"
#include "system/lone_thread.h"

using namespace memlimit;

namespace {

MEMLIMIT_ALWAYS_INLINE void about_to_wait(service::WaitFor what = service::WaitFor::kEvents) {
  if (MEMLIMIT_UNLIKELY(service::awaited())) service::start_before_wait(what);
}

constinit NextFunction<int(pollfd*, nfds_t, int)> real_poll{{"poll"}};
constinit NextFunction<int(pollfd*, nfds_t, const timespec*, const sigset_t*)> real_ppoll{
    {"ppoll"}};
constinit NextFunction<int(int, fd_set*, fd_set*, fd_set*, timeval*)> real_select{{"select"}};
constinit NextFunction<int(int, epoll_event*, int, int)> real_epoll_wait{{"epoll_wait"}};
constinit NextFunction<int(int, epoll_event*, int, int, const sigset_t*)> real_epoll_pwait{
    {"epoll_pwait"}};
constinit NextFunction<int(int, sockaddr*, socklen_t*)> real_accept{{"accept"}};
constinit NextFunction<int(int, sockaddr*, socklen_t*, int)> real_accept4{{"accept4"}};
constinit NextFunction<unsigned(unsigned)> real_sleep{{"sleep"}};
constinit NextFunction<int(const timespec*, timespec*)> real_nanosleep{{"nanosleep"}};
constinit NextFunction<int(clockid_t, int, const timespec*, timespec*)> real_clock_nanosleep{
    {"clock_nanosleep"}};
constinit NextFunction<pid_t(pid_t, int*, int)> real_waitpid{{"waitpid"}};

}  // namespace

void waits::find_functions() noexcept {
  NextSymbol lone_thread{"__libc_single_threaded"};
  NextSymbol* const symbols[] = {
      &real_poll.symbol,
      &real_ppoll.symbol,
      &real_select.symbol,
      &real_epoll_wait.symbol,
      &real_epoll_pwait.symbol,
      &real_accept.symbol,
      &real_accept4.symbol,
      &real_sleep.symbol,
      &real_nanosleep.symbol,
      &real_clock_nanosleep.symbol,
      &real_waitpid.symbol,
      &semaphores::real_wait.symbol,
      &semaphores::real_clockwait.symbol,
      &aside::real_fork,
      &lone_thread,
  };
  find_next_symbols(symbols, sizeof symbols / sizeof symbols[0]);
  os::set_libc_lone_thread(static_cast<char*>(lone_thread.address));
}

/* libc's headers declare some of these as never throwing or with attributes of their own; what is defined here has their
 * types. */
extern "C" {

MEMLIMIT_EXPORT int poll(pollfd* fds, nfds_t count, int timeout_ms) {
  if (timeout_ms != 0) about_to_wait();
  return real_poll(fds, count, timeout_ms);
}

MEMLIMIT_EXPORT int ppoll(pollfd* fds, nfds_t count, const timespec* timeout,
                          const sigset_t* mask) {
  about_to_wait();
  return real_ppoll(fds, count, timeout, mask);
}

MEMLIMIT_EXPORT int select(int count, fd_set* readable, fd_set* writable, fd_set* exceptional,
                           timeval* timeout) {
  about_to_wait();
  return real_select(count, readable, writable, exceptional, timeout);
}

MEMLIMIT_EXPORT int epoll_wait(int epoll, epoll_event* events, int count, int timeout_ms) {
  if (timeout_ms != 0) about_to_wait();
  return real_epoll_wait(epoll, events, count, timeout_ms);
}

MEMLIMIT_EXPORT int epoll_pwait(int epoll, epoll_event* events, int count, int timeout_ms,
                                const sigset_t* mask) {
  if (timeout_ms != 0) about_to_wait();
  return real_epoll_pwait(epoll, events, count, timeout_ms, mask);
}

MEMLIMIT_EXPORT int accept(int socket, sockaddr* address, socklen_t* address_bytes) {
  about_to_wait();
  return real_accept(socket, address, address_bytes);
}

MEMLIMIT_EXPORT int accept4(int socket, sockaddr* address, socklen_t* address_bytes, int flags) {
  about_to_wait();
  return real_accept4(socket, address, address_bytes, flags);
}

MEMLIMIT_EXPORT unsigned sleep(unsigned seconds) {
  about_to_wait();
  return real_sleep(seconds);
}

MEMLIMIT_EXPORT int nanosleep(const timespec* time, timespec* left) {
  about_to_wait();
  return real_nanosleep(time, left);
}

MEMLIMIT_EXPORT int clock_nanosleep(clockid_t clock, int flags, const timespec* time,
                                    timespec* left) {
  about_to_wait();
  return real_clock_nanosleep(clock, flags, time, left);
}

MEMLIMIT_EXPORT pid_t waitpid(pid_t pid, int* status, int options) {
  if ((options & WNOHANG) == 0) about_to_wait(service::WaitFor::kChildren);
  return real_waitpid(pid, status, options);
}

}  // extern "C"
