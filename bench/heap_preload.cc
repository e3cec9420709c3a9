/* The heap alone: the malloc family straight on lib/heap, with regions from mimalloc, and nothing else of memlimit.
 * What a run under libmemlimit.so costs over this one is what the limit costs; what this costs beside forward_preload.c
 * is what the heap saves.
 *
 * Refuses to be a drop-in allocator: an operator new that fails aborts, and rarer entry points are missing.
 * Threads: all, as malloc.
 */
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include <pthread.h>

#include "backing.h"
#include "heap/heap.h"
#include "heap/purge.h"

using namespace memlimit;

namespace {

void publish(const heap::News&) noexcept {}
void look(uint64_t) noexcept {}
void foreign_free(void* block) noexcept { backing::release_if_own(block); }

void set_errno() noexcept { errno = ENOMEM; }

/* Made by the constructor; threads that allocate before are the first one only. */
pthread_key_t exit_key;
bool exit_key_made = false;

bool arm_thread_exit() noexcept {
  return exit_key_made && pthread_setspecific(exit_key, &exit_key) == 0;
}

int64_t now_ms() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

__attribute__((constructor)) void make_key() {
  exit_key_made = pthread_key_create(&exit_key, [](void*) { heap::thread_exit(); }) == 0;
  pthread_atfork(nullptr, nullptr, [] { heap::reset_after_fork(); });
}

void* overflow() noexcept {
  errno = ENOMEM;
  return nullptr;
}

__attribute__((noinline)) void* resize_by_copy(void* block, size_t bytes, size_t have) noexcept {
  if (bytes == 0) {
    heap::release(block);
    return nullptr;
  }
  if (have > heap::kLargestSmallBytes) {
    if (void* const resized = heap::resize(block, bytes)) return resized;
  }
  void* const moved = heap::allocate(bytes);
  if (moved == nullptr) return nullptr;
  memcpy(moved, block, have < bytes ? have : bytes);
  heap::release(block);
  return moved;
}

}  // namespace

namespace memlimit::heap {

constinit const PageSource page_source_at_start = backing::kPages;
constinit const HeapOps heap_ops_at_start = {
    publish, look, foreign_free, backing::usable_if_own, set_errno, arm_thread_exit, now_ms};

}  // namespace memlimit::heap

extern "C" {

MEMLIMIT_EXPORT void* malloc(size_t bytes) noexcept { return heap::allocate(bytes); }
MEMLIMIT_EXPORT void free(void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void* calloc(size_t count, size_t size) noexcept {
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) return overflow();
  return heap::allocate_zeroed(bytes);
}
MEMLIMIT_EXPORT void* realloc(void* block, size_t bytes) noexcept {
  if (block == nullptr) return heap::allocate(bytes);
  const size_t have = heap::usable_bytes(block);
  if (bytes <= have && bytes > have / 2) return block;
  return resize_by_copy(block, bytes, have);
}
MEMLIMIT_EXPORT void* reallocarray(void* block, size_t count, size_t size) noexcept {
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) return overflow();
  return realloc(block, bytes);
}
MEMLIMIT_EXPORT int posix_memalign(void** out, size_t alignment, size_t bytes) noexcept {
  if ((alignment & (alignment - 1)) != 0 || alignment % sizeof(void*) != 0 || alignment == 0)
    return EINVAL;
  void* const block = heap::allocate_aligned(alignment, bytes);
  if (block == nullptr) return ENOMEM;
  *out = block;
  return 0;
}
MEMLIMIT_EXPORT void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  return heap::allocate_aligned(alignment, bytes);
}
MEMLIMIT_EXPORT void* memalign(size_t alignment, size_t bytes) noexcept {
  return heap::allocate_aligned(alignment, bytes);
}
MEMLIMIT_EXPORT void* valloc(size_t bytes) noexcept {
  return heap::allocate_aligned(heap::kPageBytes, bytes);
}
MEMLIMIT_EXPORT void* pvalloc(size_t bytes) noexcept {
  return heap::allocate_aligned(heap::kPageBytes,
                                (bytes + heap::kPageBytes - 1) & ~(heap::kPageBytes - 1));
}
MEMLIMIT_EXPORT void cfree(void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT size_t malloc_usable_size(void* block) noexcept {
  return heap::usable_bytes(block);
}

/* By the name that bench/suite/fragmentation.cc asks first. */
MEMLIMIT_EXPORT int64_t memlimit_reclaim(int64_t) noexcept {
  heap::flush_own_cache();
  return static_cast<int64_t>(heap::purge(UINT32_MAX).bytes);
}
MEMLIMIT_EXPORT int malloc_trim(size_t) noexcept { return memlimit_reclaim(0) != 0; }

}  // extern "C"

namespace {

MEMLIMIT_ALWAYS_INLINE void* or_abort(void* block) noexcept {
  if (MEMLIMIT_UNLIKELY(block == nullptr)) abort();
  return block;
}

}  // namespace

#define SIZED size_t
#define ALIGNED std::align_val_t

MEMLIMIT_EXPORT void* operator new(size_t bytes) { return or_abort(heap::allocate(bytes)); }
MEMLIMIT_EXPORT void* operator new[](size_t bytes) { return or_abort(heap::allocate(bytes)); }
MEMLIMIT_EXPORT void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return heap::allocate(bytes);
}
MEMLIMIT_EXPORT void* operator new[](size_t bytes, const std::nothrow_t&) noexcept {
  return heap::allocate(bytes);
}
MEMLIMIT_EXPORT void* operator new(size_t bytes, ALIGNED alignment) {
  return or_abort(heap::allocate_aligned(static_cast<size_t>(alignment), bytes));
}
MEMLIMIT_EXPORT void* operator new[](size_t bytes, ALIGNED alignment) {
  return or_abort(heap::allocate_aligned(static_cast<size_t>(alignment), bytes));
}
MEMLIMIT_EXPORT void* operator new(size_t bytes, ALIGNED alignment,
                                   const std::nothrow_t&) noexcept {
  return heap::allocate_aligned(static_cast<size_t>(alignment), bytes);
}
MEMLIMIT_EXPORT void* operator new[](size_t bytes, ALIGNED alignment,
                                     const std::nothrow_t&) noexcept {
  return heap::allocate_aligned(static_cast<size_t>(alignment), bytes);
}
MEMLIMIT_EXPORT void operator delete(void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void operator delete(void* block, const std::nothrow_t&) noexcept {
  heap::release(block);
}
MEMLIMIT_EXPORT void operator delete[](void* block, const std::nothrow_t&) noexcept {
  heap::release(block);
}
MEMLIMIT_EXPORT void operator delete(void* block, SIZED bytes) noexcept {
  heap::release_sized(block, bytes);
}
MEMLIMIT_EXPORT void operator delete[](void* block, SIZED bytes) noexcept {
  heap::release_sized(block, bytes);
}
MEMLIMIT_EXPORT void operator delete(void* block, ALIGNED) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block, ALIGNED) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void operator delete(void* block, SIZED bytes, ALIGNED) noexcept {
  heap::release_sized(block, bytes);
}
MEMLIMIT_EXPORT void operator delete[](void* block, SIZED bytes, ALIGNED) noexcept {
  heap::release_sized(block, bytes);
}
MEMLIMIT_EXPORT void operator delete(void* block, ALIGNED, const std::nothrow_t&) noexcept {
  heap::release(block);
}
MEMLIMIT_EXPORT void operator delete[](void* block, ALIGNED, const std::nothrow_t&) noexcept {
  heap::release(block);
}
