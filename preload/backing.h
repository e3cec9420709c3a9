/* The backing allocator: the only place that names mimalloc.
 *
 * Answers for: one inline function for each thing the entry points ask of it, and nothing else - no
 * counting, no errno, no policy. Written against 2.0.9 (Debian 12) and later 2.x and 3.x.
 */
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <mimalloc.h>
#include <unistd.h>

#include "system/attributes.h"
#include "system/text.h"

namespace memlimit::backing {

/* glibc aligns every block to 16 bytes; mimalloc aligns a request of up to 8 bytes only to 8. Programs
 * that keep tags in the low bits of pointers rely on glibc's promise. */
inline constexpr size_t kMinimumBytes = 16;
inline constexpr size_t kNaturalAlignment = 16;

MEMLIMIT_ALWAYS_INLINE size_t padded(size_t bytes) noexcept {
  return std::max(bytes, kMinimumBytes);
}

MEMLIMIT_ALWAYS_INLINE void* allocate(size_t bytes) noexcept { return mi_malloc(padded(bytes)); }

MEMLIMIT_ALWAYS_INLINE void* allocate_zeroed(size_t bytes) noexcept {
  return mi_zalloc(padded(bytes));
}

/** The bytes are a block size, as good_size() gives it: nothing is left to round. */
MEMLIMIT_ALWAYS_INLINE void* allocate_rounded(size_t block_bytes) noexcept {
  return mi_malloc(block_bytes);
}
MEMLIMIT_ALWAYS_INLINE void* allocate_rounded_zeroed(size_t block_bytes) noexcept {
  return mi_zalloc(block_bytes);
}

/** As above, at most kSmallBytes: mimalloc's fast path without its look at the size. */
inline constexpr size_t kSmallBytes = MI_SMALL_SIZE_MAX;
MEMLIMIT_ALWAYS_INLINE void* allocate_small(size_t block_bytes) noexcept {
  return mi_malloc_small(block_bytes);
}
MEMLIMIT_ALWAYS_INLINE void* allocate_small_zeroed(size_t block_bytes) noexcept {
  return mi_zalloc_small(block_bytes);
}

/** The size of the block that a request gets. */
inline size_t good_size(size_t bytes) noexcept { return mi_good_size(padded(bytes)); }

/** What usable_bytes() will say of a block for such a request. Blocks beyond 128 KiB have pages of their own,
 *  of whole slices, from 512 KiB on of eight; beyond some MiB, and in other versions, it may be less. */
inline size_t whole_block_bytes(size_t bytes) noexcept {
  constexpr size_t kSlice = size_t{64} << 10;
  constexpr size_t kPage = 8 * kSlice;
  if (bytes <= 2 * kSlice || bytes > 32 * kPage) return good_size(bytes);
  const size_t step = bytes <= kPage ? kSlice : kPage;
  return (padded(bytes) + step - 1) / step * step;
}

/** alignment: a power of two. */
MEMLIMIT_ALWAYS_INLINE void* allocate_aligned(size_t alignment, size_t bytes) noexcept {
  if (alignment <= kNaturalAlignment) return allocate(bytes);
  // Not mi_malloc_aligned: 2.0.9's takes every power of two up to 1 KiB to be aligned to itself, but
  // pages of such blocks begin 128 bytes into a slice (memalign(256, 512) gives ...80).
  return mi_malloc_aligned_at(padded(bytes), alignment, 0);
}

MEMLIMIT_ALWAYS_INLINE void release(void* block) noexcept { mi_free(block); }

/** 0 for nullptr. The same number for a block from its allocation to its release. */
MEMLIMIT_ALWAYS_INLINE size_t usable_bytes(const void* block) noexcept {
  return mi_usable_size(block);
}

/** Gives idle pages of the calling thread's heap, and of exited threads, back to the kernel. */
inline void collect(bool force) noexcept { mi_collect(force); }

/** Options go by number, which means another one in another version; and the program may be linked with that. */
inline bool options_are_known() noexcept {
  constexpr int kRenamed = 212;
  const int version = mi_version();
  return version / 100 == MI_MALLOC_VERSION / 100 &&
         (version < kRenamed) == (MI_MALLOC_VERSION < kRenamed);
}

/**
 * How eagerly mimalloc gives pages back by itself, in milliseconds after they fell idle.
 * 2.0.9's defaults are 25 (pages) and 500 (segments).
 */
inline void set_purge_delay(long page_ms, long segment_ms) noexcept {
  if (!options_are_known()) return;
#if MI_MALLOC_VERSION < 212
  mi_option_set(mi_option_decommit_delay, page_ms);
  mi_option_set(mi_option_segment_decommit_delay, segment_ms);
#else
  (void)segment_ms;
  mi_option_set(mi_option_purge_delay, page_ms);
#endif
}

/**
 * Idle pages are given back once their delay has passed, however many more fall idle meanwhile. By
 * default each of them puts the moment off by a millisecond for its whole segment, so that after a bulk
 * free nothing is due yet, and later nothing comes that would look again. A setting of the user's own
 * (MIMALLOC_DECOMMIT_EXTEND_DELAY) stands.
 */
inline void keep_purge_delay_fixed() noexcept {
  if (!options_are_known()) return;
#if MI_MALLOC_VERSION < 212
  mi_option_set_default(mi_option_decommit_extend_delay, 0);
#else
  mi_option_set_default(mi_option_purge_extend_delay, 0);
#endif
}

/**
 * Counts the NUMA nodes for mimalloc, as its unix/prim.c does. Left to itself it looks for them in the program's
 * first allocation, and that changes errno: ENOENT, for the node after the last. A setting of the user's own
 * (MIMALLOC_USE_NUMA_NODES) stands. Before the first allocation, with errno kept by the caller.
 */
inline void count_numa_nodes() noexcept {
  if (!options_are_known()) return;
  constexpr int kMostNodes = 256;
  int nodes = 1;
  for (; nodes < kMostNodes; ++nodes) {
    char path[48];
    TextWriter(path, sizeof path).put("/sys/devices/system/node/node").put_int(nodes);
    if (access(path, R_OK) != 0) break;
  }
  mi_option_set_default(mi_option_use_numa_nodes, nodes);
}

inline int version() noexcept { return mi_version(); }

/**
 * Where in its 64 KiB slice a page of small blocks begins, and with it the first block that it hands out;
 * or a number above it. SIZE_MAX: not known.
 */
inline size_t first_block_offset() noexcept { return version() == 209 ? 384 : SIZE_MAX; }

}  // namespace memlimit::backing
