/* sem_wait and sem_clockwait: CPython's main thread comes to its pending calls between two slices of a wait; see
 * runtimes/cpython_waits.h. For everybody else two comparisons and a jump.
 *
 * Cancellation unwinds through these frames: none is noexcept, none holds anything.
 */
#include <cerrno>
#include <ctime>

#include <semaphore.h>

#include "runtimes/cpython_waits.h"
#include "semaphores.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::semaphores {

constinit NextFunction<int(sem_t*)> real_wait{{"sem_wait"}};
constinit NextFunction<int(sem_t*, clockid_t, const timespec*)> real_clockwait{{"sem_clockwait"}};

}  // namespace memlimit::semaphores

using namespace memlimit;

namespace {

bool may_be_cut(const void* return_address) noexcept {
  return runtimes::cpython_waits::concerns(return_address) && os::thread_id() == os::process_id() &&
         semaphores::real_clockwait.symbol.address != nullptr;
}

}  // namespace

extern "C" {

MEMLIMIT_EXPORT int sem_wait(sem_t* semaphore) {
  if (MEMLIMIT_UNLIKELY(may_be_cut(__builtin_return_address(0)))) {
    return runtimes::cpython_waits::wait(semaphore, CLOCK_MONOTONIC, nullptr,
                                         semaphores::real_clockwait.function());
  }
  return semaphores::real_wait(semaphore);
}

#if defined(__GLIBC__) /* musl has none, and CPython there waits by sem_timedwait */
MEMLIMIT_EXPORT int sem_clockwait(sem_t* semaphore, clockid_t clock, const timespec* deadline) {
  if (MEMLIMIT_UNLIKELY(may_be_cut(__builtin_return_address(0)))) {
    return runtimes::cpython_waits::wait(semaphore, clock, deadline,
                                         semaphores::real_clockwait.function());
  }
  return semaphores::real_clockwait(semaphore, clock, deadline);
}
#endif

}  // extern "C"
