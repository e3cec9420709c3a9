/* The C, POSIX and GNU allocation functions, and the other names under which libc and libmimalloc know
 * them: whoever exports one must export all, or a block of one allocator is freed by another.
 *
 * Semantics are glibc 2.36's where mimalloc's differ: errno, realloc(p, 0), alignment of small blocks,
 * alignments that are no power of two. Each function is a few lines; blocks are lib/heap's.
 */
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "heap/heap.h"
#include "system/os.h"

using namespace memlimit;

namespace {

MEMLIMIT_COLD void* no_memory() noexcept {
  errno = ENOMEM;
  return nullptr;
}

MEMLIMIT_ALWAYS_INLINE void* do_malloc(size_t bytes) noexcept { return heap::allocate(bytes); }

MEMLIMIT_ALWAYS_INLINE void* do_calloc(size_t count, size_t size) noexcept {
  size_t bytes;
  if (MEMLIMIT_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) return no_memory();
  return heap::allocate_zeroed(bytes);
}

__attribute__((noinline)) void* resize_or_move(void* block, size_t old_bytes,
                                               size_t bytes) noexcept {
  // Nobody's block, which ends here: what malloc() returns below may lie in its place.
  if (old_bytes == 0) heap::release(block);
  if (old_bytes > heap::kLargestSmallBytes) {
    if (void* const resized = heap::resize(block, bytes)) return resized;
  } else if (heap::still_serves(heap::good_size(bytes), old_bytes)) {
    return block;
  }
  void* const moved = do_malloc(bytes);
  // Who gives up a part of a block has what it asked for.
  if (MEMLIMIT_UNLIKELY(moved == nullptr)) return bytes <= old_bytes ? block : nullptr;
  memcpy(moved, block, std::min(old_bytes, bytes));
  heap::release(block);
  return moved;
}

MEMLIMIT_ALWAYS_INLINE void* do_realloc(void* block, size_t bytes) noexcept {
  if (block == nullptr) return do_malloc(bytes);
  if (MEMLIMIT_UNLIKELY(bytes == 0)) {
    // glibc frees and returns nullptr; C23 calls it undefined, programs still rely on it.
    heap::release(block);
    return nullptr;
  }
  const size_t old_bytes = heap::usable_bytes(block);
  if (heap::still_serves(bytes, old_bytes)) return block;
  return resize_or_move(block, old_bytes, bytes);
}

constexpr bool is_power_of_two(size_t value) noexcept {
  return value != 0 && (value & (value - 1)) == 0;
}

/* glibc's memalign (and aligned_alloc up to 2.37) rounds any alignment up to a power of two, and refuses
 * one beyond half the address space with EINVAL. */
void* do_memalign(size_t alignment, size_t bytes) noexcept {
  if (MEMLIMIT_UNLIKELY(!is_power_of_two(alignment))) {
    if (alignment > SIZE_MAX / 2 + 1) {
      errno = EINVAL;
      return nullptr;
    }
    size_t rounded = heap::kMinimumAlignment;
    while (rounded < alignment) rounded <<= 1;
    alignment = rounded;
  }
  // As glibc: block and alignment together must stay an object that pointer differences can span.
  if (MEMLIMIT_UNLIKELY(bytes > PTRDIFF_MAX || alignment > PTRDIFF_MAX - bytes)) return no_memory();
  return heap::allocate_aligned(alignment, bytes);
}

int do_posix_memalign(void** out, size_t alignment, size_t bytes) noexcept {
  if (!is_power_of_two(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  const int errno_before = errno;
  void* const block = do_memalign(alignment, bytes);
  // The error is what is returned. But errno, too, is ENOMEM, as glibc has it: programs print %m.
  if (block == nullptr) return errno = ENOMEM;
  errno = errno_before;
  *out = block;
  return 0;
}

void* do_pvalloc(size_t bytes) noexcept {
  const auto page = static_cast<size_t>(os::page_bytes());
  if (MEMLIMIT_UNLIKELY(bytes > PTRDIFF_MAX - page)) return no_memory();
  return do_memalign(page, (bytes + page - 1) / page * page);
}

}  // namespace

extern "C" {

/* ISO C */

MEMLIMIT_EXPORT void* malloc(size_t bytes) noexcept { return do_malloc(bytes); }
MEMLIMIT_EXPORT void* calloc(size_t count, size_t size) noexcept { return do_calloc(count, size); }
MEMLIMIT_EXPORT void* realloc(void* block, size_t bytes) noexcept {
  return do_realloc(block, bytes);
}
MEMLIMIT_EXPORT void free(void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void free_sized(void* block, size_t) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void free_aligned_sized(void* block, size_t, size_t) noexcept {
  heap::release(block);
}
MEMLIMIT_EXPORT void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  return do_memalign(alignment, bytes);
}

/* POSIX, GNU, BSD */

MEMLIMIT_EXPORT int posix_memalign(void** out, size_t alignment, size_t bytes) noexcept {
  return do_posix_memalign(out, alignment, bytes);
}
MEMLIMIT_EXPORT void* memalign(size_t alignment, size_t bytes) noexcept {
  return do_memalign(alignment, bytes);
}
MEMLIMIT_EXPORT void* valloc(size_t bytes) noexcept {
  return do_memalign(static_cast<size_t>(os::page_bytes()), bytes);
}
MEMLIMIT_EXPORT void* pvalloc(size_t bytes) noexcept { return do_pvalloc(bytes); }
MEMLIMIT_EXPORT void* reallocarray(void* block, size_t count, size_t size) noexcept {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return no_memory();
  return do_realloc(block, bytes);
}
MEMLIMIT_EXPORT void* reallocf(void* block, size_t bytes) noexcept {
  void* const resized = do_realloc(block, bytes);
  if (resized == nullptr && bytes != 0) heap::release(block);
  return resized;
}
/* NetBSD's: *(void**)slot is resized in place; returns an error number. */
MEMLIMIT_EXPORT int reallocarr(void* slot, size_t count, size_t size) noexcept {
  os::ErrnoGuard guard;
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return EOVERFLOW;
  void** const block = static_cast<void**>(slot);
  void* const resized = do_realloc(*block, bytes);
  if (resized == nullptr && bytes != 0) return ENOMEM;
  *block = resized;
  return 0;
}
MEMLIMIT_EXPORT void cfree(void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void vfree(void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT size_t malloc_usable_size(void* block) noexcept {
  return heap::usable_bytes(block);
}
MEMLIMIT_EXPORT size_t malloc_size(const void* block) noexcept { return heap::usable_bytes(block); }
MEMLIMIT_EXPORT size_t malloc_good_size(size_t bytes) noexcept { return heap::good_size(bytes); }
MEMLIMIT_EXPORT void* _aligned_malloc(size_t alignment, size_t bytes) noexcept {
  return do_memalign(alignment, bytes);
}

/* glibc's own names, which some programs call to get round an interposer: there is no way round, since
 * the block ends in our free(). */

MEMLIMIT_EXPORT void* __libc_malloc(size_t bytes) noexcept { return do_malloc(bytes); }
MEMLIMIT_EXPORT void* __libc_calloc(size_t count, size_t size) noexcept {
  return do_calloc(count, size);
}
MEMLIMIT_EXPORT void* __libc_realloc(void* block, size_t bytes) noexcept {
  return do_realloc(block, bytes);
}
MEMLIMIT_EXPORT void* __libc_reallocarray(void* block, size_t count, size_t size) noexcept {
  return reallocarray(block, count, size);
}
MEMLIMIT_EXPORT void __libc_free(void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void __libc_cfree(void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void* __libc_memalign(size_t alignment, size_t bytes) noexcept {
  return do_memalign(alignment, bytes);
}
MEMLIMIT_EXPORT void* __libc_valloc(size_t bytes) noexcept {
  return do_memalign(static_cast<size_t>(os::page_bytes()), bytes);
}
MEMLIMIT_EXPORT void* __libc_pvalloc(size_t bytes) noexcept { return do_pvalloc(bytes); }
MEMLIMIT_EXPORT int __posix_memalign(void** out, size_t alignment, size_t bytes) noexcept {
  return do_posix_memalign(out, alignment, bytes);
}

}  // extern "C"
