/* Blocks beyond a region: each has a mapping of its own, grown by the kernel where it can be.
 *
 * Mapping one and touching its pages costs more than most programs do with it, so a few that were freed are kept for
 * the next request that fits: at most kKeptBytes, until they are as old as free slices may become (purge.h).
 * Threads: all, without locks. A block's owner is the only one to call anything for it; a kept block belongs to whoever
 * takes its address out of the place where it is kept.
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace memlimit::heap::huge {

inline constexpr size_t kKeptBytes = size_t{64} << 20;
inline constexpr size_t kLargestKeptBytes = kKeptBytes / 2;

/** bytes: whole pages. Sets *zero when all of it is. nullptr: no memory. */
void* allocate(size_t bytes, size_t alignment, bool* zero) noexcept;

/** After its class byte was cleared. Returns its bytes. */
size_t release(void* block) noexcept;

size_t usable_bytes(const void* block) noexcept;

/** With another number of pages, perhaps elsewhere. nullptr: it is as it was. */
void* resize(void* block, size_t bytes) noexcept;

/** Gives kept blocks back; only those that were kept at the last call already, if so. Returns the bytes. */
size_t drop_kept(bool only_aged) noexcept;

/** Bytes of blocks with the program. */
size_t live_bytes() noexcept;
int64_t live_blocks() noexcept;

}  // namespace memlimit::heap::huge
