/* What ties the heap to what surrounds it: its pages to mimalloc, its threads' looks to the engine, and what the engine
 * asks of an allocator to the heap.
 *
 * Refuses to allocate (malloc.cc, new.cc) and to decide (lib/engine).
 * Threads: as said; the heap is tied before the first allocation.
 */
#pragma once

#include "engine/allocator.h"

namespace memlimit::heap_ties {

/** For lib/start.h. */
extern const AllocatorOps kAllocatorOps;

/** Has the end of each thread noticed from now on: until then only the first thread keeps blocks for itself. Once, from
 *  the constructor. */
void notice_thread_exits() noexcept;

/** Where address space is limited, regions come one at a time. Once, from the constructor. */
void mind_address_space() noexcept;

}  // namespace memlimit::heap_ties
