/* mmap, munmap, mremap, mprotect and madvise as the program and libmimalloc call them.
 *
 * Answers for: telling the allocator's own calls from the program's, and counting what the program maps
 * for its data: language runtimes take most of their heap that way. Such a call takes its thread to the
 * slow path as an allocation does. The allocator's madvise calls are counted (purging must not thrash,
 * and a user can see that it does not), and errno survives its calls: free() may not change it, and this
 * is the only way in which it could. Everything goes to the kernel unchanged.
 *
 * Not seen: what libc maps for itself (thread stacks, loaded libraries), raw system calls, pkey_mprotect.
 * A call that fails half-way is taken for one that did nothing, an munmap that fails for one that worked.
 * Threads: all, in any context: a signal handler that maps may have interrupted malloc or free, which set no
 * guard on their fast path. So nothing here may wait for a lock, nor touch the thread's heap (which may be
 * in the middle of an operation), start a thread or call a hook: look::after_mapping() leaves that to
 * others.
 */

/* Meson sets it; with it, glibc's header renames mmap to mmap64, and both are defined here. musl's has mmap64 as a macro. */
#undef _FILE_OFFSET_BITS

#include "mappings.h"

#include <algorithm>
#include <cerrno>
#include <cstdarg>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#undef mmap64

#include "engine/look.h"
#include "engine/page_map.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::mappings {
namespace {

/* The allocator's code. Empty until the constructor has looked: who calls is not known before that, so
 * nothing is counted. */
struct CodeRange {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
};
constinit CodeRange allocator_code{};

constinit std::atomic<int64_t> allocator_madvise_calls{0};
constinit PageMap program_pages{};

enum class Caller : uint8_t { kProgram, kAllocator, kUnknown };

MEMLIMIT_ALWAYS_INLINE Caller caller_at(const void* return_address) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(return_address);
  const uintptr_t end = allocator_code.end.load(std::memory_order_relaxed);
  if (end == 0) return Caller::kUnknown;
  const bool allocator =
      address >= allocator_code.begin.load(std::memory_order_relaxed) && address < end;
  return allocator ? Caller::kAllocator : Caller::kProgram;
}

bool whole_pages(const void* address, size_t length) noexcept {
  return length != 0 && reinterpret_cast<uintptr_t>(address) % program_pages.page_bytes() == 0;
}

/* The counted bytes changed by so much: the thread must look up, or the footprint is out of date. */
void changed(int64_t bytes) noexcept {
  if (bytes > 0) {
    look::after_mapping(bytes);
  } else if (bytes < 0) {
    look::after_unmapping(-bytes);
  }
}

void set(const void* address, size_t length, PageMap::Use use) noexcept {
  changed(program_pages.set(reinterpret_cast<uintptr_t>(address), length, use));
}

/* A new mapping, as its flags describe it. */
void mapped(const void* address, size_t length, int protection, int flags) noexcept {
  const bool data = (flags & MAP_ANONYMOUS) != 0 && (flags & MAP_TYPE) == MAP_PRIVATE;
  if (data) {
    const bool writable = (protection & PROT_WRITE) != 0;
    set(address, length, writable ? PageMap::Use::kData : PageMap::Use::kReserved);
  } else if ((flags & MAP_FIXED) != 0) {
    // Only so can it have taken the place of something counted.
    set(address, length, PageMap::Use::kNone);
  }
}

MEMLIMIT_ALWAYS_INLINE void* map(const void* return_address, void* address, size_t length,
                                 int protection, int flags, int fd, off_t offset) noexcept {
  const long result = syscall(SYS_mmap, address, length, protection, flags, fd, offset);
  auto* const begin = reinterpret_cast<void*>(result);
  if (begin != MAP_FAILED && caller_at(return_address) == Caller::kProgram) {
    mapped(begin, length, protection, flags);
  }
  return begin;
}

/* Several mappings went from one place to another, each as it was. */
int64_t move_pages(uintptr_t from, uintptr_t to, size_t length) noexcept {
  if (from == to) return 0;
  const size_t page_bytes = program_pages.page_bytes();
  int64_t bytes = 0;
  for (size_t at = 0; at < length; at += page_bytes) {
    bytes += program_pages.set(to + at, page_bytes, program_pages.at(from + at));
  }
  return bytes + program_pages.set(from, length, PageMap::Use::kNone);
}

/* What is moved away must be forgotten before the call: another thread may be given the place at once. */
void* remap_counted(void* address, size_t old_length, size_t new_length, int flags,
                    void* target) noexcept {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  size_t length = old_length;
  if (new_length < old_length && whole_pages(address, new_length)) {
    const size_t page_bytes = program_pages.page_bytes();
    length = std::min((new_length + page_bytes - 1) / page_bytes * page_bytes, old_length);
  }
  // A tail that is cut off in its place always goes; a move may be refused, and then nothing has changed.
  const size_t tail_length = old_length - length;
  const bool in_place = (flags & MREMAP_FIXED) == 0;
  int64_t bytes = 0;
  if (in_place) bytes = program_pages.set(begin + length, tail_length, PageMap::Use::kNone);
  // Only one mapping can grow, so its pages are alike. Kernels since 6.17 move several at once.
  const PageMap::Use use = program_pages.at(begin);
  const bool moves = (flags & MREMAP_MAYMOVE) != 0 || new_length > length;
  const bool alike = program_pages.uniform(begin, length);
  const bool counted = moves && use != PageMap::Use::kNone && length != 0 && alike;
  if (counted) bytes += program_pages.set(begin, length, PageMap::Use::kNone);
  const long result = syscall(SYS_mremap, address, old_length, new_length, flags, target);
  auto* const moved = reinterpret_cast<void*>(result);
  if (moved != MAP_FAILED && moves && !alike) {
    bytes += move_pages(begin, static_cast<uintptr_t>(result), length);
  } else if (moved != MAP_FAILED && (counted || (flags & MREMAP_FIXED) != 0)) {
    bytes += program_pages.set(static_cast<uintptr_t>(result), new_length, use);
  }
  if (moved != MAP_FAILED && !in_place) {
    bytes += program_pages.set(begin + length, tail_length, PageMap::Use::kNone);
  }
  const bool stays = moved == MAP_FAILED || (flags & MREMAP_DONTUNMAP) != 0;
  if (counted && stays) bytes += program_pages.set(begin, length, use);
  changed(bytes);
  return moved;
}

}  // namespace

void set_allocator_code(AddressRange code) noexcept {
  program_pages.set_page_bytes(static_cast<size_t>(os::page_bytes()));
  allocator_code.begin.store(code.begin, std::memory_order_relaxed);
  allocator_code.end.store(code.end, std::memory_order_relaxed);
}

int64_t madvise_calls() noexcept { return allocator_madvise_calls.load(std::memory_order_relaxed); }

int64_t mapped_bytes() noexcept { return program_pages.data_bytes(); }

}  // namespace memlimit::mappings

using namespace memlimit;
using mappings::Caller;

extern "C" {

MEMLIMIT_EXPORT void* mmap(void* address, size_t length, int protection, int flags, int fd,
                           off_t offset) noexcept {
  return mappings::map(__builtin_return_address(0), address, length, protection, flags, fd, offset);
}

MEMLIMIT_EXPORT void* mmap64(void* address, size_t length, int protection, int flags, int fd,
                             off_t offset) noexcept {
  return mappings::map(__builtin_return_address(0), address, length, protection, flags, fd, offset);
}

MEMLIMIT_EXPORT int munmap(void* address, size_t length) noexcept {
  const int saved = errno;
  const Caller caller = mappings::caller_at(__builtin_return_address(0));
  // Before the call: another thread may be given the place at once.
  if (caller == Caller::kProgram && mappings::whole_pages(address, length)) {
    mappings::set(address, length, PageMap::Use::kNone);
  }
  const long result = syscall(SYS_munmap, address, length);
  if (caller == Caller::kAllocator) errno = saved;
  return static_cast<int>(result);
}

MEMLIMIT_EXPORT void* mremap(void* address, size_t old_length, size_t new_length, int flags,
                             ...) noexcept {
  va_list arguments;
  va_start(arguments, flags);
  // With MREMAP_DONTUNMAP alone it is a hint.
  const bool has_target = (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0;
  void* const target = has_target ? va_arg(arguments, void*) : nullptr;
  va_end(arguments);
  if (mappings::caller_at(__builtin_return_address(0)) == Caller::kProgram) {
    return mappings::remap_counted(address, old_length, new_length, flags, target);
  }
  return reinterpret_cast<void*>(
      syscall(SYS_mremap, address, old_length, new_length, flags, target));
}

MEMLIMIT_EXPORT int mprotect(void* address, size_t length, int protection) noexcept {
  const Caller caller = mappings::caller_at(__builtin_return_address(0));
  // The one call whose errno mimalloc reads: as the verdict itself. Restored, a failure would look like success,
  // and memory without access would be handed out. It makes it to get memory, not in free().
  const long result = syscall(SYS_mprotect, address, length, protection);
  if (caller == Caller::kProgram && result == 0) {
    mappings::changed(mappings::program_pages.protect(
        reinterpret_cast<uintptr_t>(address), length, (protection & PROT_WRITE) != 0,
        (protection & (PROT_READ | PROT_WRITE | PROT_EXEC)) != 0));
  }
  return static_cast<int>(result);
}

MEMLIMIT_EXPORT int madvise(void* address, size_t length, int advice) noexcept {
  const int saved = errno;
  const Caller caller = mappings::caller_at(__builtin_return_address(0));
  const long result = syscall(SYS_madvise, address, length, advice);
  if (caller == Caller::kAllocator) {
    mappings::allocator_madvise_calls.fetch_add(1, std::memory_order_relaxed);
    errno = saved;
  } else if (advice == MADV_DONTNEED && result == 0) {
    // Still mapped, so still counted; but the kernel holds less.
    look::after_unmapping(static_cast<int64_t>(length));
  }
  return static_cast<int>(result);
}

}  // extern "C"
