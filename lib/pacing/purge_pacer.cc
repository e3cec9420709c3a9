/* See purge_pacer.h. */
#include "pacing/purge_pacer.h"

#include <algorithm>

namespace memlimit {
namespace {

int64_t least_worth(int64_t limit_bytes) noexcept {
  return std::max(kPurgeMinBytes, limit_bytes / kPurgeLimitDivisor);
}

/* What the program is not about to take again. */
int64_t idle_bytes(const PurgeState& state, const PurgeInput& in) noexcept {
  return in.held_bytes - std::max(in.usage_bytes, highest_usage(state));
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

bool idle_is_worth(const PurgeInput& in) noexcept {
  return in.limit_bytes > 0 && in.held_bytes - in.usage_bytes > least_worth(in.limit_bytes);
}

bool past_slack(const PurgeInput& in) noexcept {
  return in.counted_bytes > in.limit_bytes + in.slack_bytes;
}

void note_usage(PurgeState& state, const PurgeInput& in) noexcept {
  if (in.allocated_bytes - state.breath_began_bytes >= in.limit_bytes / kBreathDivisor) {
    state.breath_began_bytes = in.allocated_bytes;
    state.before_bytes = state.breath_bytes;
    state.breath_bytes = 0;
  }
  state.breath_bytes = std::max(state.breath_bytes, in.usage_bytes);
}

int64_t highest_usage(const PurgeState& state) noexcept {
  return std::max(state.breath_bytes, state.before_bytes);
}

bool purge_worthwhile(const PurgeState& state, const PurgeInput& in) noexcept {
  if (in.limit_bytes <= 0 || in.counted_bytes < in.limit_bytes - in.limit_bytes / 8) return false;
  const bool below = in.counted_bytes <= in.limit_bytes;
  const int64_t worth = below ? in.limit_bytes / kPurgeBelowDivisor : 0;
  return idle_bytes(state, in) > std::max(worth, least_worth(in.limit_bytes));
}

bool purge_due(PurgeState& state, const PurgeInput& in, int64_t now_ns) noexcept {
  if (!purge_worthwhile(state, in)) return false;
  const bool past_limit = in.counted_bytes > in.limit_bytes;
  const int64_t given = in.purged_bytes - state.last_purged_bytes;
  const int64_t idle = idle_bytes(state, in);
  if (idle - state.last_idle_bytes > least_worth(in.limit_bytes)) {
    state.pressed_gap_ns = kPressedPurgeGapMinNs;
    state.gap_ns = kPurgeGapMinNs;
  }
  if (state.started) {
    const int64_t since_ns = now_ns - state.last_ns;
    const int64_t allocated = in.allocated_bytes - state.last_allocated_bytes;
    const bool paid = allocated >= price_bytes(in, given);
    const bool pressed = past_limit && since_ns >= state.pressed_gap_ns && paid;
    if (!pressed && since_ns < state.gap_ns) return false;
    // Not what it gave back counts, but what was not taken again.
    const bool in_vain = state.last_idle_bytes - idle < least_worth(in.limit_bytes);
    state.pressed_gap_ns = in_vain && past_limit
                               ? std::min(state.pressed_gap_ns * 2, kPressedPurgeGapMaxNs)
                               : kPressedPurgeGapMinNs;
    state.gap_ns = in_vain ? std::min(state.gap_ns * 2, kPurgeGapMaxNs) : kPurgeGapMinNs;
  }
  state.started = true;
  state.last_ns = now_ns;
  state.last_allocated_bytes = in.allocated_bytes;
  state.last_purged_bytes = in.purged_bytes;
  state.last_idle_bytes = idle;
  if (past_slack(in) && state.ended_before < 0) state.ended_before = in.ended;
  return true;
}

bool descent_due(PurgeState& state, const PurgeInput& in) noexcept {
  if (in.limit_bytes <= 0) return false;
  const int64_t step = std::max(kPurgeMinBytes, in.limit_bytes / kDescentDivisor);
  state.highest_bytes = std::max(state.highest_bytes, in.usage_bytes);
  if (state.descended_bytes > 0 && in.usage_bytes - state.descended_bytes > step / 2) {
    state.descended_bytes = 0;
    state.descent_doublings = std::min(state.descent_doublings + 1, kDescentMaxDoublings);
  }
  const int64_t idle = in.held_bytes - in.usage_bytes;
  if ((state.highest_bytes - in.usage_bytes) >> state.descent_doublings < step) return false;
  if (idle < step || in.held_bytes < in.limit_bytes / kDescentHeldDivisor) return false;
  // What the one before gave was not taken again, nor will it soon.
  if (in.usage_bytes < state.descended_bytes / 2) {
    state.descent_doublings = std::max(state.descent_doublings - 1, 0);
  }
  state.descended_bytes = state.highest_bytes = in.usage_bytes;
  return true;
}

bool purges_in_vain(PurgeState& state, const PurgeInput& in) noexcept {
  if (!purge_worthwhile(state, in) || !past_slack(in)) state.ended_before = -1;
  return state.ended_before >= 0 && in.ended > state.ended_before;
}

}  // namespace memlimit
