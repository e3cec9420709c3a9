/* By how much usage or the footprint fall once a runtime has collected, whose own threads free what it found.
 *
 * Answers for: what such a collection came to, waiting for it a bounded time. Refuses to tell whose blocks they were: the
 * program goes on meanwhile, so the most that was seen counts.
 * Threads: the one that had the runtime collect. Blocks: wait().
 */
#pragma once

#include <cstdint>

namespace memlimit::runtimes {

class Fall {
 public:
  /** From now on. The footprint has just been read. */
  Fall() noexcept;

  /** Until as much has fallen as is wanted, or nothing more comes: the most that did. What the runtime has released of its
   *  heap is waited for longer, and counts up to what is wanted: the kernel gets it later. 200 ms at most, and not while
   *  the service thread is to leave. */
  int64_t wait(int64_t wanted_bytes, int64_t released_bytes) const noexcept;

  int64_t of_usage_bytes() const noexcept;
  int64_t of_footprint_bytes() const noexcept; /* as it was last read */

 private:
  int64_t most_now() const noexcept;

  int64_t usage_bytes_;
  int64_t footprint_bytes_;
};

}  // namespace memlimit::runtimes
