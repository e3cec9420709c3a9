/* See thread.h. */
#include "system/thread.h"

#include <csignal>

#include <dlfcn.h>
#include <pthread.h>

#include "system/attributes.h"

namespace memlimit::os {
namespace {

#if defined(__GLIBC__)
/* As long as nobody knows: address space only. */
constinit size_t storage_bytes = size_t{512} << 10;
#else
/* musl maps its storage beside the stack. */
constexpr size_t storage_bytes = 0;
#endif

}  // namespace

void learn_thread_storage() noexcept {
#if defined(__GLIBC__)
  // The smallest stack that libc accepts, which is its storage and a little: private to glibc, and what OpenJDK sizes its
  // stacks by, too (os_linux.cpp).
  using MinimumStack = size_t(const pthread_attr_t*);
  const auto minimum =
      reinterpret_cast<MinimumStack*>(dlsym(RTLD_DEFAULT, "__pthread_get_minstack"));
  pthread_attr_t attributes;
  if (minimum == nullptr || pthread_attr_init(&attributes) != 0) return;
  storage_bytes = minimum(&attributes);
  pthread_attr_destroy(&attributes);
#endif
}

int start_thread(size_t stack_bytes, void* (*run)(void*), void* argument) noexcept {
  pthread_attr_t attributes;
  int result = pthread_attr_init(&attributes);
  if (result != 0) return result;
  // The new thread inherits the mask.
  sigset_t all, saved;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &saved);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, stack_bytes + storage_bytes);
  pthread_t thread;
  result = pthread_create(&thread, &attributes, run, argument);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &saved, nullptr);
  return result;
}

}  // namespace memlimit::os
