/* See low_numbers.h. */
#include "system/low_numbers.h"

#include <fcntl.h>
#include <unistd.h>

#include "system/attributes.h"
#include "system/os.h"

namespace memlimit {

bool LowNumbers::may_take(unsigned open, int64_t now_ns) noexcept {
  const uint8_t seen = seen_open_.load(std::memory_order_relaxed);
  const auto free = static_cast<uint8_t>(seen & ~open);
  if (free == 0) {
    if ((seen | open) != seen) {
      seen_open_.store(static_cast<uint8_t>(seen | open), std::memory_order_relaxed);
    }
    if (free_since_ns_.load(std::memory_order_relaxed) != 0) {
      free_since_ns_.store(0, std::memory_order_relaxed);
    }
    return true;
  }
  const int64_t since_ns = free_since_ns_.load(std::memory_order_relaxed);
  if (since_ns == 0) {
    free_since_ns_.store(now_ns, std::memory_order_relaxed);
    return false;
  }
  if (now_ns - since_ns < kPatienceNs) return false;
  seen_open_.store(static_cast<uint8_t>(seen & open), std::memory_order_relaxed);
  free_since_ns_.store(0, std::memory_order_relaxed);
  return true;
}

namespace low_numbers {
namespace {

constinit LowNumbers numbers{};
MEMLIMIT_TLS bool is_considerate = false;

unsigned open_now() noexcept {
  unsigned open = 0;
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (os::is_open(fd)) open |= 1U << fd;
  }
  return open;
}

}  // namespace

void be_considerate() noexcept {
  is_considerate = true;
  numbers.may_take(open_now(), os::monotonic_ns());
}

bool may_take() noexcept {
  return !is_considerate || numbers.may_take(open_now(), os::monotonic_ns());
}

}  // namespace low_numbers
}  // namespace memlimit
