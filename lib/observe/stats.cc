/* Names of levels and contexts, and copies of histograms; see stats.h. */
#include "observe/stats.h"
#include "system/attributes.h"

namespace memlimit {

std::string_view level_name(int64_t level) noexcept {
  switch (level) {
    case MEMLIMIT_LOW:
      return "low";
    case MEMLIMIT_MODERATE:
      return "moderate";
    case MEMLIMIT_CRITICAL:
      return "critical";
    case MEMLIMIT_OVER:
      return "over";
    default:
      return "unknown";
  }
}

std::string_view context_name(int context) noexcept {
  switch (context) {
    case MEMLIMIT_ASYNC:
      return "async";
    case MEMLIMIT_POLL:
      return "poll";
    case MEMLIMIT_INLINE:
      return "inline";
    case kContextSafePoint:
      return "safepoint";
    case kContextBuiltin:
      return "builtin";
    default:
      return "unknown";
  }
}

HistogramCopy Histogram::copy() const noexcept {
  HistogramCopy out{shape_, {}, sum_.load(std::memory_order_relaxed)};
  for (size_t i = 0; i <= HistogramShape::kBounds; ++i) {
    out.bucket[i] = bucket_[i].load(std::memory_order_relaxed);
  }
  return out;
}

MEMLIMIT_CHILD_CODE void Histogram::reset() noexcept {
  // One that is empty is not written to: in the child of fork that would be a page of its own.
  for (auto& bucket : bucket_) {
    if (bucket.load(std::memory_order_relaxed) != 0) bucket.store(0, std::memory_order_relaxed);
  }
  if (sum_.load(std::memory_order_relaxed) != 0) sum_.store(0, std::memory_order_relaxed);
}

}  // namespace memlimit
