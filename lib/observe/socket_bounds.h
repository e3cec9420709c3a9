/* What the clients of the statistics socket may cost, all together: slots, bytes and time. */
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>

namespace memlimit {

struct SocketBounds {
  static constexpr size_t kMaxClients = 64;
  static constexpr size_t kMaxEventStreams = kMaxClients / 2;
  static constexpr int64_t kProgressNs = 2'000'000'000; /* without a byte moving */
  static constexpr int64_t kTotalNs = 10'000'000'000;   /* from accept to close; not for events */
  static constexpr int64_t kCrowdedNs = 50'000'000;     /* kTotalNs while others wait for a slot */
  static constexpr size_t kEventQueueBytes = size_t{32} << 10;
  static constexpr size_t kMaxEventBytes = 1024; /* a longer line is cut */
  static constexpr int64_t kNever = INT64_MAX;
};

}  // namespace memlimit
