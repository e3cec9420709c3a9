/* See atfork.h. glibc runs the handlers that come before fork in the reverse order of their registration, and those that come
 * after it in that order. Ours hold locks in between, so nothing of the program's may run there: it may wait for a
 * lock of its own that another thread holds inside malloc, or ask malloc for something that looks up from its work. But
 * constructors of the program's libraries run before ours. So whoever registers first registers ours before: every
 * pthread_atfork() ends in this function of libc's (nptl/pthread_atfork.c). */
#include "atfork.h"

#include <atomic>

#include <dlfcn.h>

#include "heap/heap.h"
#include "start.h"
#include "system/attributes.h"

namespace memlimit::atfork {
namespace {

constinit std::atomic<bool> registered{false};
constinit std::atomic<bool> ours_are_in{false};
constinit std::atomic<bool> others{false};

}  // namespace

void register_ours() noexcept {
  // Set before: it comes back here.
  if (!registered.exchange(true, std::memory_order_acq_rel)) {
    register_fork_handlers(heap::reset_after_fork);
    ours_are_in.store(true, std::memory_order_release);
  }
}

bool others_prepare() noexcept { return others.load(std::memory_order_relaxed); }

}  // namespace memlimit::atfork

extern "C" {

using Handler = void (*)();

#if defined(__GLIBC__)
MEMLIMIT_EXPORT int __register_atfork(Handler prepare, Handler parent, Handler child,
                                      void* dso_handle) noexcept {
  memlimit::atfork::register_ours();
  if (prepare != nullptr && memlimit::atfork::ours_are_in.load(std::memory_order_acquire))
    memlimit::atfork::others.store(true, std::memory_order_relaxed);
  using Register = int (*)(Handler, Handler, Handler, void*);
  static const auto real = reinterpret_cast<Register>(dlsym(RTLD_NEXT, "__register_atfork"));
  return real(prepare, parent, child, dso_handle);
}
#else
/* musl's is a function of the library like any other. */
MEMLIMIT_EXPORT int pthread_atfork(Handler prepare, Handler parent, Handler child) noexcept {
  memlimit::atfork::register_ours();
  using Register = int (*)(Handler, Handler, Handler);
  const auto real = reinterpret_cast<Register>(dlsym(RTLD_NEXT, "pthread_atfork"));
  return real(prepare, parent, child);
}
#endif

}  // extern "C"
