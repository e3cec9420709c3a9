/* See overhead.h. */
#include "pacing/overhead.h"

#include <algorithm>

namespace memlimit {

int64_t overhead(OverheadState& state, const OverheadInput& in) noexcept {
  if (in.limit_bytes <= 0) {
    state = {};
    return 0;
  }
  const int64_t limit = in.limit_bytes;
  const int64_t most = limit / kOverheadMaxDivisor;
  // What was counted at a higher limit does not have to fall step by step.
  state.bytes = std::min(state.bytes, most);
  if (in.held_bytes < limit - limit / 8) return state.bytes;
  const int64_t beyond = std::clamp<int64_t>(in.beyond_bytes, 0, most);
  const int64_t low = state.bytes - limit / kOverheadFallDivisor;
  const int64_t high = state.bytes + limit / kOverheadRiseDivisor;
  state = {true, state.started ? std::clamp(beyond, low, high) : beyond};
  return state.bytes;
}

}  // namespace memlimit
