#include "settings/container_share.h"

#include <algorithm>
#include <limits>

namespace memlimit {

int64_t percent_of(int64_t bytes, int percent) noexcept {
  if (bytes <= 0 || percent <= 0) return 0;
  // Split so that no product exceeds bytes * percent / 100 by more than a hundred percents.
  const int64_t whole = bytes / 100, rest = bytes % 100;
  int64_t result = 0;
  if (__builtin_mul_overflow(whole, int64_t{percent}, &result) ||
      __builtin_add_overflow(result, rest * percent / 100, &result)) {
    return std::numeric_limits<int64_t>::max();
  }
  return result;
}

int64_t container_limit(int64_t container_bytes, int percent) noexcept {
  if (container_bytes <= 0) return 0;
  return std::max<int64_t>(percent_of(container_bytes, percent), 1);
}

}  // namespace memlimit
