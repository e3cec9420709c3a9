/* See fork_gate.h. */
#include "system/fork_gate.h"

#include "system/attributes.h"
#include "system/os.h"

namespace memlimit {

/* Sequentially consistent with close(): each writes its own count and reads the other's, and one of the two sees the
 * other. */
bool ForkGate::enter(uint32_t& inside_here) noexcept {
  inside_.fetch_add(1, std::memory_order_seq_cst);
  inside_here += 1;
  if (!is_closed()) return true;
  kept_out_.store(true, std::memory_order_seq_cst);
  return false;
}

void ForkGate::leave(uint32_t& inside_here) noexcept {
  inside_here -= 1;
  inside_.fetch_sub(1, std::memory_order_seq_cst);
  if (is_closed()) os::futex_wake(inside_, INT32_MAX);
}

void ForkGate::close(uint32_t inside_here, int64_t patience_ns) noexcept {
  forking_.fetch_add(1, std::memory_order_seq_cst);
  if (inside_.load(std::memory_order_seq_cst) == inside_here) return;
  const int64_t until_ns = os::monotonic_ns() + patience_ns;
  for (;;) {
    const uint32_t seen = inside_.load(std::memory_order_seq_cst);
    const int64_t left_ns = until_ns - os::monotonic_ns();
    if (seen == inside_here || left_ns <= 0) return;
    os::futex_wait(inside_, seen, left_ns);
  }
}

bool ForkGate::open() noexcept {
  uint32_t forks = forking_.load(std::memory_order_relaxed);
  // Not below 0: a signal handler forked in the middle of this thread's own fork, and this is that handler's child,
  // where reset_after_fork() has opened the gate already.
  while (forks != 0 &&
         !forking_.compare_exchange_weak(forks, forks - 1, std::memory_order_seq_cst)) {
  }
  return forks <= 1 && kept_out_.exchange(false, std::memory_order_seq_cst);
}

void ForkGate::wait_until_open(int64_t longest_ns) noexcept {
  const uint32_t forks = forking_.load(std::memory_order_seq_cst);
  if (forks != 0) os::futex_wait(forking_, forks, longest_ns);
}

MEMLIMIT_CHILD_CODE void ForkGate::reset_after_fork(uint32_t inside_here) noexcept {
  forking_.store(0, std::memory_order_relaxed);
  inside_.store(inside_here, std::memory_order_relaxed);
  kept_out_.store(false, std::memory_order_relaxed);
}

}  // namespace memlimit
