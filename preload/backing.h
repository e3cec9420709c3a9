/* The backing page allocator: the only place that names mimalloc.
 *
 * Answers for: where the heap's regions come from (heap/page_source.h), and what mimalloc has to be told so that it stays
 * out of the program's way. Works with 2.0.9 (Debian 12) to 3.x: nothing is asked of it but large aligned blocks, and
 * whether a block is its own. Blocks with a mapping of their own come from the kernel: mimalloc cannot make them larger
 * without a copy. So do regions where address space is limited, or mimalloc has none: it takes several times as much as an
 * aligned block has. And so does the first region, piece by piece.
 *
 * Programs may use mimalloc by its own names, beside malloc: what they get from it lies in no region of ours, is not
 * counted, and finds its way back if it ends in free().
 * Threads: all, any context that the heap may be used in.
 */
#pragma once

#include <cstddef>

#include "heap/page_source.h"

namespace memlimit::backing {

/** The source of the heap's pages. */
void* map_region(size_t bytes, size_t alignment) noexcept;
void unmap_region(void* address, size_t bytes) noexcept;
inline constexpr heap::PageSource kPages = {map_region,
                                            unmap_region,
                                            heap::kernel_pages::map,
                                            heap::kernel_pages::unmap,
                                            heap::kernel_pages::resize,
                                            heap::kernel_pages::begin,
                                            heap::kernel_pages::map_at};

/** A block that is mimalloc's goes back to it. False: it is not. Reads nothing that may not exist. */
bool release_if_own(void* block) noexcept;

/** The usable bytes of a block that is mimalloc's; 0: it is not. */
size_t usable_if_own(const void* block) noexcept;

/**
 * Tells mimalloc two things. How many NUMA nodes there are, counted as its unix/prim.c does: left to itself it looks for
 * them when it first maps something, and that changes errno: ENOENT, for the node after the last. And to leave the size
 * of pages to the kernel: mimalloc 3 asks for pages of 2 MiB where it maps a region, which come back whole where a few KiB
 * of them are touched after a purge. The user's own settings (MIMALLOC_USE_NUMA_NODES, MIMALLOC_ALLOW_LARGE_OS_PAGES)
 * stand. Once, at start, with errno kept by the caller.
 */
void set_options() noexcept;

}  // namespace memlimit::backing
