/* The same mimalloc without memlimit: forwards the malloc family to mi_* and does nothing else.
 * What a run under libmemlimit.so costs over this one is what memlimit costs; the jump through the
 * GOT is in both.
 *
 * Refuses to be a drop-in allocator: it has neither glibc's errno semantics nor its rarer entry
 * points, and an operator new that fails with an alignment returns null. Aligned blocks come from
 * mi_malloc_aligned_at: mi_malloc_aligned of mimalloc 2.0.9 misaligns sizes of 256, 512 and 1024
 * when 256 or more is asked for.
 * Threads: all, as malloc.
 */
#include <errno.h>
#include <mimalloc.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT void* malloc(size_t size) { return mi_malloc(size); }
EXPORT void free(void* block) { mi_free(block); }
EXPORT void* calloc(size_t count, size_t size) { return mi_calloc(count, size); }
EXPORT void* realloc(void* block, size_t size) { return mi_realloc(block, size); }
EXPORT void* reallocarray(void* block, size_t count, size_t size) {
  return mi_reallocn(block, count, size);
}
EXPORT int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = mi_malloc_aligned_at(size, alignment, 0);
  return *block == NULL ? ENOMEM : 0;
}
EXPORT void* aligned_alloc(size_t alignment, size_t size) {
  return mi_malloc_aligned_at(size, alignment, 0);
}
EXPORT void* memalign(size_t alignment, size_t size) {
  return mi_malloc_aligned_at(size, alignment, 0);
}
EXPORT void* valloc(size_t size) { return mi_valloc(size); }
EXPORT void* pvalloc(size_t size) { return mi_pvalloc(size); }
EXPORT void cfree(void* block) { mi_free(block); }
EXPORT size_t malloc_usable_size(void* block) { return mi_usable_size(block); }
EXPORT int malloc_trim(size_t pad) {
  (void)pad;
  mi_collect(1);
  return 1;
}

/* The replaceable C++ operators under their mangled names: size_t is `m`, std::nothrow_t comes by
 * reference. */
#define OPERATOR(name) EXPORT void* name
OPERATOR(_Znwm)(size_t size) { return mi_new(size); }
OPERATOR(_Znam)(size_t size) { return mi_new(size); }
OPERATOR(_ZnwmRKSt9nothrow_t)(size_t size, const void* tag) {
  (void)tag;
  return mi_new_nothrow(size);
}
OPERATOR(_ZnamRKSt9nothrow_t)(size_t size, const void* tag) {
  (void)tag;
  return mi_new_nothrow(size);
}
OPERATOR(_ZnwmSt11align_val_t)(size_t size, size_t alignment) {
  return mi_malloc_aligned_at(size, alignment, 0);
}
OPERATOR(_ZnamSt11align_val_t)(size_t size, size_t alignment) {
  return mi_malloc_aligned_at(size, alignment, 0);
}
OPERATOR(_ZnwmSt11align_val_tRKSt9nothrow_t)(size_t size, size_t alignment, const void* tag) {
  (void)tag;
  return mi_malloc_aligned_at(size, alignment, 0);
}
OPERATOR(_ZnamSt11align_val_tRKSt9nothrow_t)(size_t size, size_t alignment, const void* tag) {
  (void)tag;
  return mi_malloc_aligned_at(size, alignment, 0);
}

EXPORT void _ZdlPv(void* block) { mi_free(block); }
EXPORT void _ZdaPv(void* block) { mi_free(block); }
EXPORT void _ZdlPvRKSt9nothrow_t(void* block, const void* tag) {
  (void)tag;
  mi_free(block);
}
EXPORT void _ZdaPvRKSt9nothrow_t(void* block, const void* tag) {
  (void)tag;
  mi_free(block);
}
EXPORT void _ZdlPvm(void* block, size_t size) { mi_free_size(block, size); }
EXPORT void _ZdaPvm(void* block, size_t size) { mi_free_size(block, size); }
EXPORT void _ZdlPvSt11align_val_t(void* block, size_t alignment) {
  mi_free_aligned(block, alignment);
}
EXPORT void _ZdaPvSt11align_val_t(void* block, size_t alignment) {
  mi_free_aligned(block, alignment);
}
EXPORT void _ZdlPvmSt11align_val_t(void* block, size_t size, size_t alignment) {
  mi_free_size_aligned(block, size, alignment);
}
EXPORT void _ZdaPvmSt11align_val_t(void* block, size_t size, size_t alignment) {
  mi_free_size_aligned(block, size, alignment);
}
EXPORT void _ZdlPvSt11align_val_tRKSt9nothrow_t(void* block, size_t alignment, const void* tag) {
  (void)tag;
  mi_free_aligned(block, alignment);
}
EXPORT void _ZdaPvSt11align_val_tRKSt9nothrow_t(void* block, size_t alignment, const void* tag) {
  (void)tag;
  mi_free_aligned(block, alignment);
}
