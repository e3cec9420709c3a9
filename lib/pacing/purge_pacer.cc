/* See purge_pacer.h. */
#include "pacing/purge_pacer.h"

#include <algorithm>

namespace memlimit {
namespace {

int64_t least_worth(int64_t limit_bytes) noexcept {
  return std::max(kPurgeMinBytes, limit_bytes / kPurgeLimitDivisor);
}

bool idle_is_worth(const PurgeInput& in) noexcept {
  return in.limit_bytes > 0 && in.held_bytes - in.usage_bytes > least_worth(in.limit_bytes);
}

bool past_slack(const PurgeInput& in) noexcept {
  return in.counted_bytes > in.limit_bytes + in.slack_bytes;
}

/* Bytes that must have been allocated since the last purge, 0 from the end of the slack on. */
int64_t price_bytes(const PurgeInput& in, int64_t given_bytes) noexcept {
  const int64_t left = in.limit_bytes + in.slack_bytes - in.counted_bytes;
  if (left <= 0 || in.slack_bytes <= 0) return 0;
  const double share = static_cast<double>(left) / static_cast<double>(in.slack_bytes);
  // One that gave nothing took its time, too.
  const auto given = static_cast<double>(std::max(given_bytes, kPurgeMinBytes));
  return static_cast<int64_t>(share * given * static_cast<double>(kPurgePrice));
}

}  // namespace

int64_t slack_for(int64_t limit_bytes, int64_t room_bytes) noexcept {
  const int64_t slack = std::max<int64_t>(limit_bytes, 0) / kSlackDivisor;
  return room_bytes < 0 ? slack : std::min(slack, room_bytes / kSlackRoomDivisor);
}

Level purge_eagerness(const PurgeInput& in) noexcept {
  if (!idle_is_worth(in) || in.counted_bytes <= in.limit_bytes) return Level::kModerate;
  return past_slack(in) ? Level::kOver : Level::kCritical;
}

bool purge_worthwhile(const PurgeInput& in) noexcept {
  return idle_is_worth(in) && in.counted_bytes >= in.limit_bytes - in.limit_bytes / 8;
}

bool purge_due(PurgeState& state, const PurgeInput& in, int64_t now_ns) noexcept {
  if (!purge_worthwhile(in)) return false;
  const bool past_limit = in.counted_bytes > in.limit_bytes;
  const int64_t given = in.purged_bytes - state.last_purged_bytes;
  const int64_t idle = in.held_bytes - in.usage_bytes;
  if (idle - state.last_idle_bytes > least_worth(in.limit_bytes)) {
    state.pressed_gap_ns = kPressedPurgeGapMinNs;
  }
  if (state.started) {
    const int64_t since_ns = now_ns - state.last_ns;
    const int64_t allocated = in.allocated_bytes - state.last_allocated_bytes;
    const bool paid = allocated >= price_bytes(in, given);
    const bool pressed = past_limit && since_ns >= state.pressed_gap_ns && paid;
    if (!pressed && since_ns < state.gap_ns) return false;
  }
  const bool in_vain = state.started && past_limit && given < kPurgeMinBytes;
  state.pressed_gap_ns =
      in_vain ? std::min(state.pressed_gap_ns * 2, kPressedPurgeGapMaxNs) : kPressedPurgeGapMinNs;
  state.gap_ns = state.started ? std::min(state.gap_ns * 2, kPurgeGapMaxNs) : kPurgeGapMinNs;
  state.started = true;
  state.last_ns = now_ns;
  state.last_allocated_bytes = in.allocated_bytes;
  state.last_purged_bytes = in.purged_bytes;
  state.last_idle_bytes = idle;
  if (past_slack(in) && state.past_slack_since_ns < 0) state.past_slack_since_ns = now_ns;
  return true;
}

bool purges_in_vain(PurgeState& state, const PurgeInput& in, int64_t now_ns) noexcept {
  if (!idle_is_worth(in) || !past_slack(in)) state.past_slack_since_ns = -1;
  if (state.past_slack_since_ns < 0) return false;
  const int64_t threads = std::clamp<int64_t>(in.threads, 1, kPurgePatienceMaxThreads);
  return now_ns - state.past_slack_since_ns >= threads * kPurgePatienceNs;
}

void purge_gave(PurgeState& state, int64_t limit_bytes, int64_t given_bytes) noexcept {
  if (given_bytes > least_worth(limit_bytes)) state.gap_ns = kPurgeGapMinNs;
}

bool near_limit(const PurgeInput& in) noexcept {
  return in.limit_bytes > 0 && in.counted_bytes >= in.limit_bytes / 2;
}

bool hoards_matter(const PurgeInput& in, int64_t was_near_at_bytes) noexcept {
  if (in.limit_bytes <= 0) return false;
  return near_limit(in) ||
         in.allocated_bytes - was_near_at_bytes < in.limit_bytes / kDescentDivisor;
}

bool hoard_due(HoardState& state, int64_t limit_bytes, int64_t usage_bytes, int64_t allocated_bytes,
               int64_t freed_bytes) noexcept {
  const int64_t net = freed_bytes - allocated_bytes;
  state.lowest_net_bytes = std::min(state.lowest_net_bytes, net);
  // What others freed of its blocks it holds no more, and does not know.
  const int64_t held = std::min(-net, usage_bytes);
  const int64_t least =
      std::max({kHoardMinBytes, limit_bytes / kHoardLimitDivisor, held / kHoardHeldDivisor});
  return (net - state.lowest_net_bytes) >> state.doublings >= least;
}

void hoard_emptied(HoardState& state, int64_t allocated_bytes, int64_t freed_bytes) noexcept {
  state.lowest_net_bytes = freed_bytes - allocated_bytes;
}

void hoard_collected(HoardState& state, int64_t allocated_bytes, int64_t freed_bytes,
                     int64_t given_bytes) noexcept {
  const int64_t net = freed_bytes - allocated_bytes;
  const bool taken_again = allocated_bytes - state.collected_at_bytes >= state.given_bytes / 2;
  // Blocks of other threads' heaps are freed here, too, and nothing of them is idle here.
  const bool in_vain = given_bytes < (net - state.lowest_net_bytes) / 4;
  if ((state.given_bytes > 0 && taken_again) || in_vain) {
    state.doublings = std::min(state.doublings + 1, kHoardMaxDoublings);
  } else if (state.doublings > 0) {
    state.doublings -= 1;
  }
  state.lowest_net_bytes = net;
  state.collected_at_bytes = allocated_bytes;
  state.given_bytes = given_bytes;
}

}  // namespace memlimit
