/* jemalloc's functions for blocks: mallocx, rallocx, xallocx, sallocx, dallocx, sdallocx, nallocx.
 *
 * The blocks are the heap's, as malloc's are, and free() takes them. Of the flags, alignment and zeroing are kept;
 * caches and arenas that are chosen with the others make no difference here. Sizes of 0, which jemalloc leaves
 * undefined, are served as malloc serves them.
 *
 * Threads: all functions from any thread.
 */
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "heap/heap.h"
#include "heap/large.h"
#include "system/attributes.h"

using namespace memlimit;

namespace {

constexpr int kAlignmentBits = 63; /* MALLOCX_LG_ALIGN() */
constexpr int kZero = 64;          /* MALLOCX_ZERO */

constexpr size_t alignment_in(int flags) noexcept { return size_t{1} << (flags & kAlignmentBits); }

/* As malloc: a block, and what its place takes, stays an object that pointer differences can span. */
constexpr bool is_possible(size_t bytes, size_t alignment) noexcept {
  return bytes <= PTRDIFF_MAX && alignment <= PTRDIFF_MAX - bytes;
}

bool is_aligned(const void* block, size_t alignment) noexcept {
  return (reinterpret_cast<uintptr_t>(block) & (alignment - 1)) == 0;
}

/* What usable_bytes() will say: heap::allocate_aligned() goes by the same classes. */
size_t block_bytes(size_t bytes, size_t alignment) noexcept {
  if (alignment <= heap::kMinimumAlignment) return heap::good_size(bytes);
  if (bytes <= heap::kLargestSmallBytes && alignment <= heap::kLargestSmallBytes) {
    const size_t rounded = std::max((bytes + alignment - 1) & ~(alignment - 1), alignment);
    if (rounded <= heap::kLargestSmallBytes)
      return heap::kClasses[heap::aligned_class(bytes, alignment)].block_bytes;
  }
  // No class has such places: whole pages, however few.
  return heap::large::good_size(std::max<size_t>(bytes, 1));
}

void* allocate(size_t bytes, int flags) noexcept {
  const size_t alignment = alignment_in(flags);
  if (!is_possible(bytes, alignment)) {
    errno = ENOMEM;
    return nullptr;
  }
  const bool zero = (flags & kZero) != 0;
  if (alignment <= heap::kMinimumAlignment) {
    // All of the block, not what was asked for alone: rallocx() clears what comes after it only.
    return zero ? heap::allocate_zeroed(heap::good_size(bytes)) : heap::allocate(bytes);
  }
  void* const block = heap::allocate_aligned(alignment, bytes);
  return zero && block != nullptr ? memset(block, 0, heap::usable_bytes(block)) : block;
}

/* Where the block is, or where it is moved without a copy; nullptr: it is as it was. */
void* resize(void* block, size_t old_bytes, size_t bytes, size_t alignment) noexcept {
  if (!is_aligned(block, alignment)) return nullptr;
  // realloc's rule.
  if (heap::still_serves(bytes, old_bytes) ||
      heap::still_serves(block_bytes(bytes, alignment), old_bytes))
    return block;
  // A block with a mapping of its own may move, and is aligned to a slice then.
  const bool may_move = heap::class_at(block) == heap::kHugeClass;
  if (old_bytes <= heap::kLargestSmallBytes || (may_move && alignment > heap::kSliceBytes))
    return nullptr;
  return heap::resize(block, bytes);
}

void* reallocate(void* block, size_t old_bytes, size_t bytes, int flags) noexcept {
  // Nobody's block, which ends the process here: the new one might lie in its place.
  if (old_bytes == 0) heap::release(block);
  if (void* const resized = resize(block, old_bytes, bytes, alignment_in(flags))) return resized;
  void* const moved = allocate(bytes, flags & ~kZero);
  if (moved == nullptr) return nullptr;
  memcpy(moved, block, std::min(old_bytes, bytes));
  heap::release(block);
  return moved;
}

/* What a block has got since it had so many bytes. */
void clear_beyond(void* block, size_t old_bytes, int flags) noexcept {
  const size_t bytes = heap::usable_bytes(block);
  if ((flags & kZero) != 0 && bytes > old_bytes)
    memset(static_cast<char*>(block) + old_bytes, 0, bytes - old_bytes);
}

}  // namespace

extern "C" {

/** A block of at least so many bytes; nullptr when there is no memory. */
MEMLIMIT_EXPORT void* mallocx(size_t bytes, int flags) noexcept { return allocate(bytes, flags); }

/** As realloc, and the new place has the alignment. Without memory it is nullptr, and the block as it was. */
MEMLIMIT_EXPORT void* rallocx(void* block, size_t bytes, int flags) noexcept {
  if (block == nullptr) return allocate(bytes, flags);
  const size_t old_bytes = heap::usable_bytes(block);
  void* const resized = reallocate(block, old_bytes, bytes, flags);
  if (resized != nullptr) clear_beyond(resized, old_bytes, flags);
  return resized;
}

/** Makes a block larger or smaller where it is: by `extra` bytes more than `bytes` if that can be. Returns what the block
 *  has then, which is less than `bytes` where it could not grow. */
MEMLIMIT_EXPORT size_t xallocx(void* block, size_t bytes, size_t extra, int flags) noexcept {
  const size_t old_bytes = heap::usable_bytes(block);
  // No other block changes its size and stays.
  if (heap::class_at(block) != heap::kLargeClass || !is_aligned(block, alignment_in(flags)))
    return old_bytes;
  const size_t most = bytes > SIZE_MAX - extra ? SIZE_MAX : bytes + extra;
  if (heap::resize(block, most) == nullptr) {
    // It stays as it is where that is enough.
    if (bytes <= old_bytes || heap::resize(block, bytes) == nullptr) return old_bytes;
  }
  clear_beyond(block, old_bytes, flags);
  return heap::usable_bytes(block);
}

/** What the program may use of a block. */
MEMLIMIT_EXPORT size_t sallocx(const void* block, int) noexcept {
  return heap::usable_bytes(block);
}

/** Frees a block. */
MEMLIMIT_EXPORT void dallocx(void* block, int) noexcept { heap::release(block); }

/** Frees a block of that size, which is not trusted. */
MEMLIMIT_EXPORT void sdallocx(void* block, size_t bytes, int) noexcept {
  heap::release_sized(block, bytes);
}

/** What sallocx() will say of a block for such a request; 0 when there can be none. */
MEMLIMIT_EXPORT size_t nallocx(size_t bytes, int flags) noexcept {
  const size_t alignment = alignment_in(flags);
  return is_possible(bytes, alignment) ? block_bytes(bytes, alignment) : 0;
}

}  // extern "C"
