/* The numbers 0, 1 and 2: whose turn it is to open something while one of them is free.
 *
 * open() and its like take the lowest free number, so a descriptor of ours has it for an instant before it moves up
 * (os::move_fd_high()) or is closed. A daemon that has closed everything opens /dev/null, counts on its being 0, and gives 1 and
 * 2 to it as well: on the thread that serves us none of them is taken meanwhile. There is no call that opens at a number.
 *
 * A stream that has been free for kPatienceNs is taken for closed for good, as one is that was never seen open.
 * Threads: all. Async-signal-safe; no lock, allocates nothing. Context: any, between fork and exec, too.
 */
#pragma once

#include <atomic>
#include <cstdint>

namespace memlimit {

class LowNumbers {
 public:
  static constexpr int64_t kPatienceNs = 5'000'000'000;

  /** Whether a descriptor may be opened now. `open`: which of 0, 1 and 2 are (bits 0 to 2). Clock: any that is not 0 and goes
   *  on. */
  bool may_take(unsigned open, int64_t now_ns) noexcept;

 private:
  std::atomic<uint8_t> seen_open_{0};
  std::atomic<int64_t> free_since_ns_{0}; /* 0: none that was seen open is free */
};

namespace low_numbers {

/** From now on may_take() is a question for this thread. The streams that are open now are those that it waits for. */
void be_considerate() noexcept;

/** Whether the calling thread may open a descriptor now: a considerate one not while the program may be about to open one of
 *  the three. Three system calls for such a thread, none for others. */
bool may_take() noexcept;

}  // namespace low_numbers
}  // namespace memlimit
