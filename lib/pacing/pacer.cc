/* Decisions of the pacer; see pacer.h for what it steers by.
 *
 * Answers for: arithmetic that holds from a limit of 1 byte to INT64_MAX. Every sum saturates,
 * every percentage divides before it multiplies, and no difference is taken of unclamped input.
 * Threads: any, one at a time for one PacerState.
 */
#include "pacing/pacer.h"

#include <algorithm>
#include <limits>

namespace memlimit {
namespace {

constexpr int64_t kMaxBytes = std::numeric_limits<int64_t>::max();
constexpr int kMaxDoublings = 40;  // more than that saturates anyway

// All arguments of these are >= 0.
int64_t add(int64_t a, int64_t b) noexcept { return a > kMaxBytes - b ? kMaxBytes : a + b; }

int64_t sub(int64_t a, int64_t b) noexcept { return a > b ? a - b : 0; }

int64_t times(int64_t bytes, int64_t factor) noexcept {
  return bytes > kMaxBytes / factor ? kMaxBytes : bytes * factor;
}

int64_t percent_of(int64_t bytes, int64_t percent) noexcept {
  return bytes / 100 * percent + bytes % 100 * percent / 100;
}

int64_t doubled(int64_t bytes, int times) noexcept {
  for (int i = 0; i < times && bytes < kMaxBytes; ++i) bytes = add(bytes, bytes);
  return bytes;
}

int64_t to_bytes(double value) noexcept {
  constexpr double kLargest = 9.2e18;  // below 2^63, so that the conversion is defined
  return value >= kLargest ? kMaxBytes : static_cast<int64_t>(std::max(value, 0.0));
}

// Where a cache that is filled for ever comes to rest.
int64_t target_for(int64_t limit) noexcept {
  return std::max(percent_of(limit, kTargetPercent), sub(limit, kReserveMaxBytes));
}

// The marks on the way to one limit, in bytes.
struct Marks {
  int64_t start;           // rounds begin
  int64_t start_leave;     // level low again
  int64_t target;          // asking equals growing
  int64_t critical;        // level critical...
  int64_t critical_leave;  // ...until here
  int64_t over_leave;      // level over from the limit, until here
  int64_t margin;
};

Marks marks_for(const PacerSettings& settings, int64_t limit, int64_t lag_bytes) noexcept {
  Marks m{};
  m.start = percent_of(limit, std::clamp(settings.start_percent, 0, 100));
  // Half way to the limit when someone starts later than the target.
  m.target = std::max(target_for(limit), m.start + (limit - m.start) / 2);
  m.start_leave = sub(m.start, limit / 50);
  // A cache that rests at the target must not flap: critical begins half way from there to the
  // limit and ends half way back.
  m.critical = m.target + (limit - m.target) / 2;
  m.critical_leave = m.target + (m.critical - m.target) / 2;
  m.over_leave = m.critical + (limit - m.critical) / 2;
  // Decisions are made at the target, and usage goes on rising by the lag until they take effect.
  // Half of the way from target to limit is kept for that; the rest comes off the target.
  const int64_t lag = std::min(lag_bytes, limit / kLagMaxDivisor);
  const int64_t give = sub(lag, (limit - m.target) / kLagReserveDivisor);
  m.target = std::max(sub(m.target, give), m.start);
  m.margin = add(margin_for(limit), add(give, lag));
  return m;
}

Level level_for(const Marks& m, int64_t limit, int64_t paced, Level before) noexcept {
  if (paced >= limit) return Level::kOver;
  if (before == Level::kOver && paced >= m.over_leave) return Level::kOver;
  if (paced >= m.critical) return Level::kCritical;
  if (before >= Level::kCritical && paced >= m.critical_leave) return Level::kCritical;
  if (paced >= m.start) return Level::kModerate;
  if (before >= Level::kModerate && paced >= m.start_leave) return Level::kModerate;
  return Level::kLow;
}

double share_at(const Marks& m, int64_t paced) noexcept {
  if (paced >= m.target) return 1.0;
  if (paced <= m.start) return 0.0;
  const double way = static_cast<double>(paced - m.start) / static_cast<double>(m.target - m.start);
  double share = way;
  for (int i = 1; i < kSharePower; ++i) share *= way;
  return share;
}

// The gap as it is after fruitless rounds. Never shorter than without them.
int64_t backed_off(int64_t gap, int64_t limit, int fruitless) noexcept {
  const int64_t cap = std::max(gap, limit / kBackoffCapDivisor);
  return std::min(doubled(gap, fruitless), cap);
}

int64_t growth_trigger(const PacerSettings& settings, const PacerState& state) noexcept {
  if (settings.growth_percent <= 0) return kMaxBytes;
  const double factor = 1.0 + static_cast<double>(settings.growth_percent) / 100.0;
  return std::max(kGrowthMinBytes, to_bytes(static_cast<double>(state.growth_base_bytes) * factor));
}

void forget(PacerState& state, int64_t limit, int64_t paced, int64_t allocated) noexcept {
  state.limit_bytes = limit;
  state.looked_at_bytes = allocated;
  state.peak_bytes = paced;
  state.grown_bytes = 0;
  state.owed_bytes = 0;
  state.decided_at_bytes = allocated;
  state.open_bytes = 0;
  state.freed_bytes = 0;
  state.fruitless = 0;
}

// What asking for this much will bring, going by what asking brought so far.
int64_t expected(const PacerState& state, int64_t asked) noexcept {
  return to_bytes(static_cast<double>(asked) * state.yield);
}

void open_round(PacerState& state, const PacerInput& in, int64_t wanted) noexcept {
  state.open_bytes = wanted;
  state.open_freed_bytes = 0;
  state.open_paced_bytes = state.open_peak_bytes = in.paced_bytes;
  state.open_shared = in.own_bytes >= 0;
  state.decided_at_bytes = in.allocated_bytes;
  state.grown_bytes = 0;
  state.owed_bytes = 0;
  state.growth_base_bytes = in.paced_bytes;
}

// Takes note of growth: the peak follows usage up, and a share of the way is owed.
void owe(const Marks& m, PacerState& state, const PacerInput& in, int64_t gap) noexcept {
  const int64_t allocated = sub(in.allocated_bytes, state.looked_at_bytes);
  state.looked_at_bytes = in.allocated_bytes;
  if (in.paced_bytes <= state.peak_bytes) return;
  const int64_t most = times(std::max(gap, state.freed_bytes), kGrowthGaps);
  const int64_t growth = std::min({in.paced_bytes - state.peak_bytes, allocated, most});
  state.peak_bytes = in.paced_bytes;
  state.grown_bytes = add(state.grown_bytes, growth);
  const double share = share_at(m, in.paced_bytes) * static_cast<double>(growth);
  state.owed_bytes = add(state.owed_bytes, to_bytes(share));
}

// Bytes to ask for at or over the limit. Not scaled by the yield: rather too much than too little.
int64_t wanted_over(const Marks& m, const PacerInput& in) noexcept {
  const int64_t wanted = std::min(add(in.paced_bytes - in.limit_bytes, m.margin), in.paced_bytes);
  return in.own_bytes < 0 ? wanted : fair_share(in.own_bytes, in.paced_bytes, wanted);
}

// Bytes to ask for between start and the limit, 0 = nothing.
int64_t wanted_below(const Marks& m, const PacerState& state, const PacerInput& in,
                     int64_t gap) noexcept {
  // Usage that has fallen again by itself is not to be pushed. Where anything grew, a quantum at
  // least is asked for: rounds begin at the start threshold, and can be seen to.
  const bool grew = state.grown_bytes >= in.quantum_bytes;
  const bool at_peak = add(in.paced_bytes, gap) >= state.peak_bytes;
  const int64_t owed = grew && at_peak ? std::max(state.owed_bytes, in.quantum_bytes) : 0;
  // Above the target, back to it as well.
  const int64_t back = sub(in.paced_bytes, m.target);
  // But hardly more than was allocated since the last round, for the paced number may be a footprint
  // that does not fall however much is freed.
  const int64_t allocated = sub(in.allocated_bytes, state.decided_at_bytes);
  const int64_t most = add(allocated, allocated / 4);
  const int64_t wanted = std::min(add(owed, back), most);
  // Whoever gives in lumps is asked when a lump is owed, or above the target half of one.
  const int64_t lump = back > 0 ? state.lump_bytes / 2 : state.lump_bytes;
  if (wanted < std::max(in.quantum_bytes, lump)) return 0;
  return std::max<int64_t>(to_bytes(static_cast<double>(wanted) / state.yield), 1);
}

// Learns from a round how far usage went on rising after the decision.
void learn_lag(PacerState& state) noexcept {
  const int64_t sample = sub(state.open_peak_bytes, state.open_paced_bytes);
  const bool rise = sample > state.lag_bytes;
  // Over the limit threads may be made to wait for the round: that hides how slow it is.
  if (!rise && state.open_paced_bytes >= state.limit_bytes) return;
  const auto change = static_cast<double>(sample - state.lag_bytes);
  state.lag_bytes += static_cast<int64_t>(change * (rise ? kLagRise : kLagFall));
}

// Learns from a round how much hooks give for what they are asked.
void learn_yield(PacerState& state, int64_t wanted, int64_t freed) noexcept {
  const int64_t due = expected(state, wanted);
  if (freed / kLumpRatio > due) {
    // The least that a round gave of late.
    const int64_t slowly = add(state.lump_bytes, state.lump_bytes / 8);
    state.lump_bytes = state.lump_bytes == 0 ? freed : std::min(freed, slowly);
  } else {
    state.lump_bytes /= 2;
  }
  // Nothing at all is what `fruitless` is for, and over the limit less than wanted is what a cache
  // gives that is empty.
  if (freed == 0 || (freed < wanted && state.open_paced_bytes >= state.limit_bytes)) return;
  const double ratio = static_cast<double>(freed) / static_cast<double>(wanted);
  state.yield += kYieldWeight * (std::clamp(ratio, kYieldMin, kYieldMax) - state.yield);
}

}  // namespace

int64_t fair_share(int64_t own_bytes, int64_t group_bytes, int64_t excess_bytes) noexcept {
  if (excess_bytes <= 0 || own_bytes <= 0) return 0;
  if (group_bytes <= own_bytes) return std::min(excess_bytes, own_bytes);
  __extension__ using Wide = unsigned __int128;
  const Wide group = static_cast<Wide>(group_bytes);
  const Wide asked =
      (static_cast<Wide>(excess_bytes) * static_cast<Wide>(own_bytes) + group - 1) / group;
  return std::min(static_cast<int64_t>(asked), own_bytes);
}

int64_t margin_for(int64_t limit_bytes) noexcept {
  if (limit_bytes <= 0) return 0;
  const int64_t margin =
      std::clamp(percent_of(limit_bytes, kMarginPercent), kMarginMinBytes, kMarginMaxBytes);
  return std::min(margin, limit_bytes / kMarginMaxDivisor);
}

bool asks_runtimes(const PacerSettings& settings, int64_t paced_bytes,
                   int64_t limit_bytes) noexcept {
  if (limit_bytes <= 0 || settings.growth_percent > 0) return true;
  const int64_t start = std::clamp(settings.start_percent, 0, 100);
  const int64_t percent = start + (100 - start) * kRuntimeStartPercent / 100;
  return paced_bytes >= percent_of(limit_bytes, percent);
}

Level level_at(const PacerSettings& settings, int64_t paced_bytes, int64_t limit_bytes) noexcept {
  if (limit_bytes <= 0) return Level::kLow;
  const Marks marks = marks_for(settings, limit_bytes, 0);
  return level_for(marks, limit_bytes, std::max<int64_t>(paced_bytes, 0), Level::kLow);
}

int64_t round_gap(int64_t paced_bytes, int64_t limit_bytes, int64_t quantum_bytes) noexcept {
  const int64_t headroom =
      sub(std::max<int64_t>(limit_bytes, 0), std::max<int64_t>(paced_bytes, 0));
  return std::max({headroom / kGapDivisor, quantum_bytes, int64_t{1}});
}

int64_t quantum_for(int64_t limit_bytes, int64_t paced_bytes, int64_t threads) noexcept {
  if (limit_bytes <= 0) return kQuantumMaxBytes;
  threads = std::clamp<int64_t>(threads, 1, int64_t{1} << 32);
  int64_t rounded_up = 1;
  while (rounded_up < threads) rounded_up *= 2;
  // The bound. Of the threads alive at most m can hold a quantum that was given when there were m
  // or fewer: when the last of them got it, all of them were there. So the worst sum is that of
  // threads that come one by one: B/8 * (1 + 1/2 + 2/4 + 4/8 + ...), which gains B/16 with each
  // doubling. There are at most five doublings between the ceiling of 64 KiB and the floor of 2
  // KiB: the sum stays below B/2 until everyone is at the floor, and from there each adds half of
  // its 4 KiB.
  const int64_t budget = std::max(percent_of(limit_bytes, 1), int64_t{1} << 20);
  int64_t quantum = budget / 8 / rounded_up;
  // The limit must be noticed in time: all threads together move at most a quarter of the way to
  // it. The same above it, so that a program that is far over pays little for counting.
  const int64_t paced = std::max<int64_t>(paced_bytes, 0);
  const int64_t distance = std::max(sub(limit_bytes, paced), sub(paced, limit_bytes));
  quantum = std::min(quantum, distance / 4 / rounded_up);
  return std::clamp(quantum, kQuantumMinBytes, kQuantumMaxBytes);
}

int64_t cache_for(int64_t limit_bytes) noexcept {
  if (limit_bytes <= 0) return kCacheMaxBytes;
  return std::clamp(limit_bytes / kCacheLimitDivisor, kCacheMinBytes, kCacheMaxBytes);
}

int64_t still_wanted(int64_t wanted_bytes, int64_t freed_bytes, int64_t paced_at_begin_bytes,
                     int64_t paced_now_bytes, int64_t deepest_fall_bytes) noexcept {
  const int64_t fallen =
      sub(std::max<int64_t>(paced_at_begin_bytes, 0), std::max<int64_t>(paced_now_bytes, 0));
  if (fallen >= std::max<int64_t>(deepest_fall_bytes, 1)) return 0;
  return sub(std::max<int64_t>(wanted_bytes, 0), std::max({freed_bytes, fallen, int64_t{0}}));
}

int64_t deepest_fall(int64_t paced_bytes, int64_t limit_bytes) noexcept {
  if (limit_bytes <= 0) return kMaxBytes;
  const int64_t paced = std::max<int64_t>(paced_bytes, 0);
  const int64_t down_to = std::min(paced, target_for(limit_bytes));
  return paced - sub(down_to, margin_for(limit_bytes));
}

Decision pace(const PacerSettings& settings, PacerState& state, const PacerInput& input) noexcept {
  PacerInput in = input;
  in.paced_bytes = std::max<int64_t>(in.paced_bytes, 0);
  in.limit_bytes = std::max<int64_t>(in.limit_bytes, 0);
  in.allocated_bytes = std::max<int64_t>(in.allocated_bytes, 0);
  in.quantum_bytes = std::max<int64_t>(in.quantum_bytes, 1);
  const int64_t limit = in.limit_bytes;
  const bool limit_changed = limit != state.limit_bytes;
  if (limit_changed) forget(state, limit, in.paced_bytes, in.allocated_bytes);
  const int64_t since = sub(in.allocated_bytes, state.decided_at_bytes);
  const bool over = limit > 0 && in.paced_bytes >= limit;
  const int64_t patience = over ? limit / kLostRoundDivisor : times(limit, kLostRoundLimits);
  if (since >= add(patience, add(state.open_bytes, in.quantum_bytes))) state.open_bytes = 0;

  Decision d;
  const Marks m = marks_for(settings, limit, state.lag_bytes);
  const Level before = state.level;
  // Hysteresis belongs to one limit: after a change the level is what the new limit says.
  d.level = limit == 0 ? Level::kLow
                       : level_for(m, limit, in.paced_bytes, limit_changed ? Level::kLow : before);
  d.level_changed = d.level != before;
  state.level = d.level;
  const bool rose = d.level > before;
  if (rose || d.level == Level::kLow) state.fruitless = 0;

  const bool begun = limit > 0 && in.paced_bytes >= m.start;

  const int64_t grown_at = growth_trigger(settings, state);
  const bool grown = in.paced_bytes >= grown_at;
  const int64_t gap = begun ? round_gap(in.paced_bytes, limit, in.quantum_bytes) : in.quantum_bytes;
  const int64_t long_gap = backed_off(gap, limit, state.fruitless);
  // A peak beyond the target is no licence to go there again. Below half of the start threshold a
  // new phase begins, and old peaks are forgotten.
  if (in.paced_bytes < m.target) state.peak_bytes = std::min(state.peak_bytes, m.target);
  if (in.paced_bytes < m.start / 2) state.peak_bytes = 0;
  state.peak_bytes = std::max(state.peak_bytes, m.start);
  // One round at a time: what grows meanwhile is counted when it has ended.
  const bool open = state.open_bytes > 0;
  if (open) {
    state.open_peak_bytes = std::max(state.open_peak_bytes, in.paced_bytes);
  } else {
    owe(m, state, in, gap);
  }
  const bool half_is_gone =
      !over && state.fruitless > 0 && limit - in.paced_bytes <= state.fruitless_headroom_bytes / 2;
  const bool gap_passed =
      !open && (since >= long_gap || half_is_gone || (over && (rose || limit_changed)));

  if (gap_passed && over) {
    d.wanted_bytes = wanted_over(m, in);
  } else if (gap_passed && begun) {
    d.wanted_bytes = wanted_below(m, state, in, gap);
  }
  if (gap_passed && grown && !over) {
    const int64_t growth = sub(in.paced_bytes, state.growth_base_bytes) / kGrowthShareDivisor;
    d.wanted_bytes = std::max(d.wanted_bytes, growth);
  }
  d.wanted_bytes = std::min(d.wanted_bytes, in.paced_bytes);
  d.round_due = d.wanted_bytes > 0;
  if (d.round_due) open_round(state, in, d.wanted_bytes);

  // When to look again. While x bytes are allocated usage rises by at most x, so the gap shrinks
  // by at most x / kGapDivisor. Below the limit back-off is left out: it ends when the level
  // rises.
  int64_t ahead = in.quantum_bytes;
  if (begun) {
    const int64_t rest = sub(over ? long_gap : gap, d.round_due ? 0 : since);
    ahead = std::max(ahead, rest / (kGapDivisor + 1) * kGapDivisor);
  } else if (limit > 0) {
    ahead = std::max(ahead, std::min(m.start, grown_at) - in.paced_bytes);
  } else {
    ahead = grown_at == kMaxBytes ? kMaxBytes : std::max(ahead, sub(grown_at, in.paced_bytes));
  }
  d.next_round_allocated_bytes = add(in.allocated_bytes, ahead);
  return d;
}

void round_done(PacerState& state, const RoundResult& result) noexcept {
  const int64_t wanted = result.wanted_bytes > 0 ? state.open_bytes : 0;
  const int64_t paced = std::max<int64_t>(result.paced_bytes, 0);
  const int64_t allocated = std::max<int64_t>(result.allocated_bytes, 0);
  state.growth_base_bytes = paced;
  if (wanted == 0) return;
  state.open_bytes = 0;

  // What left usage since the round was decided is at most what it was and what was allocated, less
  // what it is. A hook that frees what does not show in the paced number (or a measurement that is
  // fooled) has freed nothing as far as the limit is concerned.
  const int64_t grown = sub(allocated, state.decided_at_bytes);
  const int64_t left = sub(add(state.open_paced_bytes, grown), paced);
  const int64_t measured = add(state.open_freed_bytes, std::max<int64_t>(result.freed_bytes, 0));
  // Of a number that others raise meanwhile nothing can be told.
  const int64_t freed = state.open_shared ? measured : std::min(measured, left);

  // What was given beyond what was expected is growth forestalled: it may come back unasked.
  state.freed_bytes = std::min(freed, expected(state, wanted));
  state.peak_bytes = sub(state.peak_bytes, state.freed_bytes);
  state.open_peak_bytes = std::max(state.open_peak_bytes, paced);
  learn_lag(state);
  // Low enough: hooks were not asked for the rest.
  const bool cut_short =
      sub(state.open_paced_bytes, paced) >= deepest_fall(state.open_paced_bytes, state.limit_bytes);
  if (!cut_short || measured >= wanted) learn_yield(state, wanted, measured);
  if (cut_short || (freed > 0 && freed >= wanted / kFruitlessDivisor)) {
    state.fruitless = 0;
  } else {
    state.fruitless = std::min(state.fruitless + 1, kMaxDoublings);
    state.fruitless_headroom_bytes = sub(state.limit_bytes, paced);
  }
}

void round_partly_done(PacerState& state, int64_t freed_bytes) noexcept {
  state.open_freed_bytes = add(state.open_freed_bytes, std::max<int64_t>(freed_bytes, 0));
}

void round_skipped(PacerState& state) noexcept { state.open_bytes = 0; }

}  // namespace memlimit
