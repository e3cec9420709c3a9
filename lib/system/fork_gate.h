/* Threads inside something that the child of a fork must not find half done, and forks that keep others out of it.
 *
 * A lock would do, were it not for waits that may never end: whoever is inside may wait for a lock of the program's that
 * the forking thread holds, and two signal handlers that fork on two threads wait for one another. So nobody waits for
 * long here: whoever finds the gate closed does without, and a fork goes on after a while.
 *
 * Threads: any. Context: close() and open() also in a signal handler that interrupted a thread which is inside; neither
 * allocates. The caller keeps for each thread how often it is inside. The process's own gate is in engine/fork.h.
 */
#pragma once

#include <atomic>
#include <cstdint>

namespace memlimit {

class ForkGate {
 public:
  /** While it lives, forks wait. False: a fork is under way, and the caller does not do it. */
  class Inside {
   public:
    Inside(ForkGate& gate, uint32_t& inside_here) noexcept
        : gate_(gate), inside_here_(inside_here), entered_(gate.enter(inside_here)) {}
    ~Inside() { gate_.leave(inside_here_); }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    explicit operator bool() const noexcept { return entered_; }

   private:
    ForkGate& gate_;
    uint32_t& inside_here_;
    bool entered_;
  };

  /** Before fork: lets nobody in from now on, and waits until no other thread is inside, or for so long.
   *  inside_here: of the calling thread. */
  void close(uint32_t inside_here, int64_t patience_ns) noexcept;

  /** After fork, in the parent. Whether it is open now and somebody was kept out meanwhile: who does without is to be
   *  told that there is no need any more. Sequentially consistent with enter(). */
  [[nodiscard]] bool open() noexcept;

  /** Whether a fork is under way. */
  bool is_closed() const noexcept { return forking_.load(std::memory_order_seq_cst) != 0; }

  /** Returns when no fork is under way any more, or after so long. */
  void wait_until_open(int64_t longest_ns) noexcept;

  /** In the child: of the other threads none is inside. */
  void reset_after_fork(uint32_t inside_here) noexcept;

 private:
  bool enter(uint32_t& inside_here) noexcept;
  void leave(uint32_t& inside_here) noexcept;

  std::atomic<uint32_t> inside_{0};  /* futex: changes when a thread leaves while a fork waits */
  std::atomic<uint32_t> forking_{0}; /* futex, by time alone */
  std::atomic<bool> kept_out_{false};
};

}  // namespace memlimit
