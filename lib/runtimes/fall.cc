/* See fall.h. */
#include "runtimes/fall.h"

#include <algorithm>
#include <atomic>

#include "engine/account.h"
#include "engine/footprint.h"
#include "engine/paced.h"
#include "engine/service.h"
#include "system/os.h"

namespace memlimit::runtimes {
namespace {

/* So long in all, so long when nothing moves, looking as often. Direct buffers are freed within milliseconds; G1 waits for
 * 100 ms before it gives back what it has taken out of its heap. */
constexpr int64_t kLongestNs = 200'000'000;
constexpr int64_t kPauseNs = 30'000'000;
constexpr int64_t kPollNs = 5'000'000;

}  // namespace

Fall::Fall() noexcept
    : usage_bytes_(account::published_usage_bytes()), footprint_bytes_(paced::footprint_bytes()) {}

int64_t Fall::of_usage_bytes() const noexcept {
  return usage_bytes_ - account::published_usage_bytes();
}

int64_t Fall::of_footprint_bytes() const noexcept {
  return footprint_bytes_ - paced::footprint_bytes();
}

int64_t Fall::most_now() const noexcept {
  footprint::read();
  return std::max(of_usage_bytes(), of_footprint_bytes());
}

int64_t Fall::wait(int64_t wanted_bytes, int64_t released_bytes) const noexcept {
  static constinit std::atomic<uint32_t> nothing{0};
  int64_t moved_ns = os::monotonic_ns();
  const int64_t until_ns = moved_ns + kLongestNs;
  int64_t most = most_now();
  while (most < wanted_bytes && !service::is_leaving()) {
    const int64_t now_ns = os::monotonic_ns();
    const int64_t patience_ns = most < released_bytes ? kLongestNs : kPauseNs;
    if (now_ns >= std::min(until_ns, moved_ns + patience_ns)) break;
    os::futex_wait(nothing, 0, kPollNs);
    const int64_t fallen = most_now();
    if (fallen <= most) continue;
    most = fallen;
    moved_ns = now_ns;
  }
  // Else rounds would back off while the heap is held by them: measured, a G1 heap in a group of 400 MB was killed.
  return std::max(most, std::min(released_bytes, wanted_bytes));
}

}  // namespace memlimit::runtimes
