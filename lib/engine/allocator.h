/* What the engine may ask of the allocator: a table of functions that whoever brings the allocator hands in.
 *
 * Refuses to know which allocator it is. Threads: set_allocator() once, at start; the table is then read by all.
 */
#pragma once

#include <cstdint>

#include "pacing/pacer.h"

namespace memlimit {

/** Called with the reentrancy guard set. */
struct AllocatorOps {
  /** Gives the calling thread's idle pages, and those of exited threads, back to the kernel. */
  void (*collect)() noexcept;
  /** How eagerly the allocator gives pages back by itself at this level. kOver: at once, for idle pages are
   *  what fills the limit. */
  void (*set_eagerness)(Level level) noexcept;
  /** madvise calls the allocator has made. */
  int64_t (*madvise_calls)() noexcept;
  /** A pass of the ASYNC hooks is over, in which every free was looked at (account::look_at_every_free). On the
   *  service thread. */
  void (*pass_ended)() noexcept;
  /** Bytes of blocks that hooks freed and that are kept for the next allocations. */
  int64_t (*kept_bytes)() noexcept;
  /** Frees those. On any thread. */
  void (*free_kept)() noexcept;
  /** Bytes that the program has mapped itself and may write to. */
  int64_t (*mapped_bytes)() noexcept;
};

/** Before it is called every function does nothing: statistics may be read before there is an allocator to ask. */
void set_allocator(const AllocatorOps& ops) noexcept;

/** The table in force. */
const AllocatorOps& allocator() noexcept;

}  // namespace memlimit
