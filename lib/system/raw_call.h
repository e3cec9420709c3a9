/* System calls that touch nothing of libc's: neither its text nor errno, and the result is the kernel's, negative for an error.
 * For what runs in each child of fork, where every page that is touched first costs a fault (MEMLIMIT_CHILD_CODE).
 *
 * Refuses to know any call by name: os.h does. Elsewhere than on x86-64 and arm64 it is libc's syscall().
 */
#pragma once

#include <cerrno>

#include <sys/syscall.h>
#include <unistd.h>

#include "system/attributes.h"

namespace memlimit::os {

MEMLIMIT_ALWAYS_INLINE long raw_call(long number, long first = 0, long second = 0, long third = 0,
                                     long fourth = 0) noexcept {
#if defined(__x86_64__)
  long result = number;
  register long in_r10 asm("r10") = fourth;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(first), "S"(second), "d"(third), "r"(in_r10)
               : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long in_x8 asm("x8") = number;
  register long in_x0 asm("x0") = first;
  register long in_x1 asm("x1") = second;
  register long in_x2 asm("x2") = third;
  register long in_x3 asm("x3") = fourth;
  asm volatile("svc #0" : "+r"(in_x0) : "r"(in_x8), "r"(in_x1), "r"(in_x2), "r"(in_x3) : "memory");
  return in_x0;
#else
  const int saved = errno;
  long result = syscall(number, first, second, third, fourth);
  if (result < 0) result = -errno;
  errno = saved;
  return result;
#endif
}

MEMLIMIT_ALWAYS_INLINE long address(const void* pointer) noexcept {
  return static_cast<long>(reinterpret_cast<unsigned long>(pointer));
}

}  // namespace memlimit::os
