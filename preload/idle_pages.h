/* Idle pages inside mimalloc's segments, given back to the kernel.
 *
 * mi_collect() of mimalloc 2.0 gives back segments (32 MiB) that have become free as a whole. What is free
 * inside others waits for the next page to be taken from the same segment, which may never come: after a
 * program had freed all but 84 KiB of 64 MiB, mi_collect(true) gave nothing back.
 */
#pragma once

namespace memlimit::idle_pages {

/** Drops what no page of the calling thread's heap uses. Allocates nothing by malloc; maps a table for the
 *  time of the call. Only the owner of a heap may do that: nobody else takes pages from its segments. */
void release() noexcept;

/** From now on release() does nothing: a thread may have a second heap, whose pages it would take for idle. */
void turn_off() noexcept;

}  // namespace memlimit::idle_pages
