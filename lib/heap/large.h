/* Blocks that are runs of slices, from 32 KiB to a region, and beyond that huge ones (huge.h).
 *
 * A block's size is in whole pages: what its last slice has beyond them is never touched. Its class byte is that of its
 * first slice; the others have none, so a pointer into the middle is no block.
 * Threads: all, without locks. Who gets a block, frees or resizes it is its only owner; a second free loses the exchange
 * of the class byte.
 */
#pragma once

#include <cstddef>

namespace memlimit::heap::large {

/** alignment: a power of two, at least a page's worth. Sets *block_bytes, and *zero: all of it is zero. nullptr: no memory. */
void* allocate(size_t bytes, size_t alignment, size_t* block_bytes, bool* zero) noexcept;

/** A block of kLargeClass or kHugeClass. Returns its bytes. Ends the program where it is none. */
size_t release(void* block) noexcept;

size_t usable_bytes(const void* block) noexcept;

/** See heap::resize(). Sets the block's old and new bytes. */
void* resize(void* block, size_t bytes, size_t* old_bytes, size_t* new_bytes) noexcept;

/** The size of a block for a request. */
size_t good_size(size_t bytes) noexcept;

/** Bytes in blocks that are runs. */
size_t run_bytes() noexcept;

}  // namespace memlimit::heap::large
