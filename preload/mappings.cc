/* mmap, munmap, mremap, mprotect and madvise as the program and libmimalloc call them.
 *
 * Answers for: telling the allocator's own calls from the program's. The allocator's madvise calls are
 * counted (purging must not thrash, and a user can see that it does not), and errno survives them: free()
 * may not change it, and this is the only way in which it could. Everything goes to the kernel unchanged.
 * Threads: all, in any context; no lock, no allocation.
 */

/* Meson sets it; with it, glibc's header renames mmap to mmap64, and both are defined here. */
#undef _FILE_OFFSET_BITS

#include <cerrno>
#include <cstdarg>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attributes.h"
#include "mappings.h"
#include "os.h"

namespace memlimit::mappings {
namespace {

/* The allocator's code. Empty until the constructor has looked; calls before that count as the
 * program's, which they mostly are not, but nothing is decided on them then. */
struct CodeRange {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
};
constinit CodeRange allocator_code{};

constinit Counters shared_counters{};

bool from_allocator(const void* caller) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(caller);
  return address >= allocator_code.begin.load(std::memory_order_relaxed) &&
         address < allocator_code.end.load(std::memory_order_relaxed);
}

/* The kernel's answer as libc gives it, with errno kept for the allocator's calls. */
long finish(long result, int saved_errno, bool allocator) noexcept {
  if (allocator) errno = saved_errno;
  return result;
}

}  // namespace

void set_allocator_code(const void* begin, const void* end) noexcept {
  allocator_code.begin.store(reinterpret_cast<uintptr_t>(begin), std::memory_order_relaxed);
  allocator_code.end.store(reinterpret_cast<uintptr_t>(end), std::memory_order_relaxed);
}

const Counters& counters() noexcept { return shared_counters; }

}  // namespace memlimit::mappings

using namespace memlimit;

extern "C" {

MEMLIMIT_EXPORT void* mmap(void* address, size_t length, int protection, int flags, int fd,
                           off_t offset) noexcept {
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, length, protection, flags, fd, offset));
}

MEMLIMIT_EXPORT void* mmap64(void* address, size_t length, int protection, int flags, int fd,
                             off_t offset) noexcept {
  return mmap(address, length, protection, flags, fd, offset);
}

MEMLIMIT_EXPORT int munmap(void* address, size_t length) noexcept {
  const int saved = errno;
  const bool allocator = mappings::from_allocator(__builtin_return_address(0));
  return static_cast<int>(mappings::finish(syscall(SYS_munmap, address, length), saved, allocator));
}

MEMLIMIT_EXPORT void* mremap(void* address, size_t old_length, size_t new_length, int flags,
                             ...) noexcept {
  va_list arguments;
  va_start(arguments, flags);
  void* const target = (flags & MREMAP_FIXED) != 0 ? va_arg(arguments, void*) : nullptr;
  va_end(arguments);
  return reinterpret_cast<void*>(
      syscall(SYS_mremap, address, old_length, new_length, flags, target));
}

MEMLIMIT_EXPORT int mprotect(void* address, size_t length, int protection) noexcept {
  const int saved = errno;
  const bool allocator = mappings::from_allocator(__builtin_return_address(0));
  return static_cast<int>(
      mappings::finish(syscall(SYS_mprotect, address, length, protection), saved, allocator));
}

MEMLIMIT_EXPORT int madvise(void* address, size_t length, int advice) noexcept {
  const int saved = errno;
  const bool allocator = mappings::from_allocator(__builtin_return_address(0));
  if (allocator) {
    mappings::shared_counters.madvise_calls.fetch_add(1, std::memory_order_relaxed);
  }
  return static_cast<int>(
      mappings::finish(syscall(SYS_madvise, address, length, advice), saved, allocator));
}

}  // extern "C"
