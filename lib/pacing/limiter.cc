/* The leaky bucket; see limiter.h.
 *
 * Answers for: the order of the steps within one update and what odd clocks do to it.
 * Threads: any, one at a time for one LimiterState.
 */
#include "pacing/limiter.h"

#include <algorithm>
#include <limits>

namespace memlimit {
namespace {

// Time that passed between two readings of one clock. Backwards is no time; so is a first reading.
int64_t passed(int64_t before, int64_t now) noexcept {
  before = std::max<int64_t>(before, 0);
  now = std::max<int64_t>(now, 0);
  return now > before ? now - before : 0;
}

int64_t add(int64_t a, int64_t b) noexcept {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  return a > kMost - b ? kMost : a + b;
}

// The estimate follows the program: it starts anew when filling begins, and again half way up, so
// that after a long climb it does not name a live set of long ago.
void forget_lowest(LimiterState& state) noexcept { state.lowest_paced_bytes = -1; }

// From here on is counted what reclaim takes until the bucket is full.
void begin_filling(LimiterState& state) noexcept {
  state.filling_process_ns = state.process_cpu_ns;
  state.filling_reclaim_ns = state.reclaim_cpu_ns;
  state.filling_stalled_ns = state.stalled_ns;
}

}  // namespace

LimiterChange limiter_update(LimiterState& state, int64_t now_ns, int64_t process_cpu_ns,
                             int64_t reclaim_cpu_ns_total, int64_t cores,
                             int64_t stalled_ns_total) noexcept {
  cores = std::clamp<int64_t>(cores, 1, kLimiterMaxCores);
  state.capacity_ns = kLimiterCapacityNsPerCore * cores;

  int64_t wall = 0;
  int64_t process = 0;
  int64_t reclaim = 0;
  int64_t stalled = 0;
  if (state.started) {
    // No reading may count for more than a capacity: enough to fill or empty the bucket, too little
    // to overflow anything.
    const int64_t most = state.capacity_ns;
    wall = passed(state.now_ns, now_ns);
    process = std::min(passed(state.process_cpu_ns, process_cpu_ns), 2 * most);
    reclaim = std::min(passed(state.reclaim_cpu_ns, reclaim_cpu_ns_total), most);
    stalled = std::min(passed(state.stalled_ns, stalled_ns_total), most);
  }
  state.started = true;
  state.now_ns = now_ns;
  if (state.fill_ns == 0 && !state.on) begin_filling(state);
  state.process_cpu_ns = process_cpu_ns;
  state.reclaim_cpu_ns = reclaim_cpu_ns_total;
  state.stalled_ns = stalled_ns_total;
  if (state.on) state.on_total_ns = add(state.on_total_ns, wall);

  // The program's own time can come out negative when a long round is reported in one piece: what
  // was taken for the program's in earlier windows was the round's. Keep the sign, it corrects
  // them.
  const int64_t program = process - reclaim;
  const int64_t idle = wall > reclaim ? (wall - reclaim) / kLimiterIdleDivisor : 0;
  const int64_t drain =
      program < 0 ? program : std::max(program, std::min(idle, state.capacity_ns));
  const int64_t change = std::max(reclaim, stalled) - drain;

  const int64_t before = state.fill_ns;
  const int64_t after = std::min(before, state.capacity_ns) + change;
  state.fill_ns = std::clamp<int64_t>(after, 0, state.capacity_ns);
  state.overflow_ns = add(state.overflow_ns, std::max<int64_t>(after - state.capacity_ns, 0));

  const int64_t half = state.capacity_ns / kLimiterReleaseDivisor;
  if (!state.on) {
    if (state.fill_ns == 0) forget_lowest(state);
    if (state.fill_ns < state.capacity_ns) {
      if (before < half && state.fill_ns >= half) forget_lowest(state);
      return LimiterChange::kNone;
    }
    state.on = true;
    state.on_since_ns = now_ns;
    ++state.episodes;
    state.needed_bytes = std::max<int64_t>(state.lowest_paced_bytes, 0);
    state.took_reclaim_ns = std::max(passed(state.filling_reclaim_ns, state.reclaim_cpu_ns),
                                     passed(state.filling_stalled_ns, state.stalled_ns));
    state.took_process_ns = passed(state.filling_process_ns, state.process_cpu_ns);
    return LimiterChange::kCameOn;
  }
  return state.fill_ns > half ? LimiterChange::kNone : limiter_release(state);
}

LimiterChange limiter_release(LimiterState& state) noexcept {
  if (!state.on) return LimiterChange::kNone;
  state.on = false;
  forget_lowest(state);
  begin_filling(state);
  return LimiterChange::kWentOff;
}

void limiter_round_done(LimiterState& state, int64_t paced_bytes) noexcept {
  paced_bytes = std::max<int64_t>(paced_bytes, 0);
  if (state.lowest_paced_bytes < 0 || paced_bytes < state.lowest_paced_bytes) {
    state.lowest_paced_bytes = paced_bytes;
  }
  // It came on in the middle of a round: the first that was so long.
  if (state.on && state.needed_bytes == 0) state.needed_bytes = paced_bytes;
}

void limiter_round_skipped(LimiterState& state) noexcept { ++state.skipped; }

int limiter_fill_percent(const LimiterState& state) noexcept {
  if (state.capacity_ns <= 0) return 0;
  return static_cast<int>(state.fill_ns / (state.capacity_ns / 100));
}

}  // namespace memlimit
