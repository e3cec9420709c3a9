/* See hopeless.h. */
#include "pacing/hopeless.h"

#include "pacing/pacer.h"

namespace memlimit {
namespace {

bool has_nothing_left(const HopelessState& state, const HopelessInput& in) noexcept {
  if (in.fruitless < kHopelessRounds) return false;
  return state.answered >= kHopelessRounds ||
         in.now_ns - state.vain_since_ns >= kHopelessUnansweredNs;
}

}  // namespace

void hopeless_round_done(HopelessState& state, int fruitless, bool answered,
                         int64_t now_ns) noexcept {
  // The pacer counts anew when the level rises, too.
  if (fruitless <= 1) {
    state.answered = 0;
    state.vain_since_ns = now_ns;
  }
  if (fruitless > 0 && answered && state.answered < kHopelessRounds) ++state.answered;
}

LimiterChange hopeless_update(HopelessState& state, const HopelessInput& in) noexcept {
  LimiterChange change = LimiterChange::kNone;
  const bool over = in.limit_bytes > 0 && in.paced_bytes > in.limit_bytes;
  // Beyond the margin: a program that is only just over may still come back by itself.
  const bool far_over = over && in.paced_bytes - in.limit_bytes > margin_for(in.limit_bytes);
  if (!state.on && far_over && has_nothing_left(state, in)) {
    state.on = true;
    state.episodes += 1;
    state.on_since_ns = in.now_ns;
    change = LimiterChange::kCameOn;
  } else if (state.on && (!over || in.fruitless == 0)) {
    state.on = false;
    change = LimiterChange::kWentOff;
  }
  if (state.on) state.needed_bytes = in.paced_bytes;
  return change;
}

}  // namespace memlimit
