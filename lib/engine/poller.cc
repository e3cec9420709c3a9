/* See poller.h. */
#include "engine/poller.h"

#include <atomic>
#include <cerrno>

#include <sys/eventfd.h>

#include "engine/requests.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::poller {
namespace {

struct alignas(64) State {
  std::atomic<int64_t> wanted{0};
  std::atomic<int64_t> by_hand{0};
  std::atomic<bool> due{false};
  std::atomic<int> descriptor{-1};
};
constinit MEMLIMIT_FORK_DATA State state{};

/* Sequentially consistent with descriptor(): one of the two sees the other. */
void wake() noexcept {
  state.due.store(true, std::memory_order_seq_cst);
  const int fd = state.descriptor.load(std::memory_order_seq_cst);
  if (fd < 0) return;
  const uint64_t one = 1;
  os::write_all(fd, reinterpret_cast<const char*>(&one), sizeof one);
  // Once more: a take() that came before the write has taken the request and left the descriptor readable.
  state.due.store(true, std::memory_order_release);
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  state.wanted.store(0, std::memory_order_relaxed);
  state.by_hand.store(0, std::memory_order_relaxed);
  state.due.store(false, std::memory_order_relaxed);
  state.descriptor.store(-1, std::memory_order_relaxed);
}

}  // namespace

void want(int64_t bytes) noexcept {
  state.wanted.store(bytes, std::memory_order_release);
  wake();
}

void want_explicit(int64_t bytes) noexcept {
  requests::ask_for(state.by_hand, bytes);
  wake();
}

bool is_due() noexcept { return state.due.load(std::memory_order_relaxed); }

Wanted take() noexcept {
  const int fd = state.descriptor.load(std::memory_order_acquire);
  uint64_t ignored;
  // Cleared before the figures are taken: a round that comes in between makes it readable again.
  state.due.exchange(false, std::memory_order_acq_rel);
  if (fd >= 0) os::read_some(fd, reinterpret_cast<char*>(&ignored), sizeof ignored);
  const int64_t by_round = state.wanted.exchange(0, std::memory_order_acq_rel);
  return {by_round, state.by_hand.exchange(0, std::memory_order_acq_rel)};
}

int descriptor() noexcept {
  os::ErrnoGuard errno_guard;
  int fd = state.descriptor.load(std::memory_order_acquire);
  if (fd >= 0) return fd;
  const int fresh = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fresh < 0) return -errno;
  if (!state.descriptor.compare_exchange_strong(fd, fresh, std::memory_order_seq_cst)) {
    os::close_file(fresh);
    return fd;
  }
  if (state.due.load(std::memory_order_seq_cst)) wake();
  return fresh;
}

constinit const fork::Part kForkPart{.name = "poller", .reset = reset_after_fork};

}  // namespace memlimit::poller
