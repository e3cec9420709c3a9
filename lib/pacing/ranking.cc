/* Figures of hooks and their order; see ranking.h.
 *
 * Answers for: ties (the longest unasked first, then the slot) so that an order is reproducible.
 * Threads: any, one at a time for one set of figures.
 */
#include "pacing/ranking.h"

#include <algorithm>
#include <limits>

namespace memlimit {
namespace {

// Sums rather than a mean of ratios: a run that was asked for one page says little about the rate
// of one that was asked for ten megabytes.
void decay_in(double& sum, double value) noexcept { sum += kRankingDecay * (value - sum); }

bool is_new(const HookFigures& figures) noexcept {
  return figures.runs == 0 && figures.skips < kNewHookSkips;
}

bool before(const HookFigures& a, const HookFigures& b) noexcept {
  const bool a_new = is_new(a);
  const bool b_new = is_new(b);
  if (a_new != b_new) return a_new;
  const double a_rate = hook_rate(a);
  const double b_rate = hook_rate(b);
  if (a_rate > b_rate) return true;
  if (a_rate < b_rate) return false;
  return a.last_round < b.last_round;
}

// By what the fruitless call itself cost, not by the fruitful ones before it.
uint32_t interval_cap(double microseconds) noexcept {
  const double rounds = microseconds / kHookIntervalUsPerRound;
  if (rounds >= kHookIntervalMaxCap) return kHookIntervalMaxCap;
  return std::max(kHookIntervalMinCap, static_cast<uint32_t>(rounds));
}

}  // namespace

void hook_ran(HookFigures& figures, const HookRun& run) noexcept {
  const int64_t freed = std::max<int64_t>(run.freed_bytes, 0);
  double microseconds = static_cast<double>(std::max<int64_t>(run.elapsed_ns, 1)) / 1000.0;
  if (run.past_deadline) microseconds *= kLatePenalty;
  if (figures.runs == 0) {
    figures.bytes = static_cast<double>(freed);
    figures.microseconds = microseconds;
  } else {
    decay_in(figures.bytes, static_cast<double>(freed));
    decay_in(figures.microseconds, microseconds);
  }
  ++figures.runs;
  figures.last_round = run.round;

  const int64_t negligible =
      std::min(kHookNegligibleBytes, run.wanted_bytes / kHookNegligibleDivisor);
  if (freed > std::max<int64_t>(negligible, 0)) {
    figures.interval = 1;
    figures.headroom_bytes = 0;
  } else {
    ++figures.fruitless_runs;
    figures.headroom_bytes = std::max<int64_t>(run.headroom_bytes, 0);
    figures.interval = std::min(figures.interval * 2, interval_cap(microseconds));
  }
  const uint64_t latest = std::numeric_limits<uint64_t>::max() - kHookIntervalMaxCap;
  figures.due_round = std::min(run.round, latest) + figures.interval;
}

void hook_cannot_now(HookFigures& figures, uint64_t round) noexcept {
  ++figures.skips;
  figures.last_round = round;
}

void hook_recover(HookFigures& figures) noexcept {
  figures.interval = 1;
  figures.due_round = 0;
  figures.headroom_bytes = 0;
}

double hook_rate(const HookFigures& figures) noexcept {
  return figures.microseconds > 0.0 ? figures.bytes / figures.microseconds : 0.0;
}

bool hook_due(const HookFigures& figures, uint64_t round, int64_t headroom_bytes) noexcept {
  const bool half_is_gone =
      figures.headroom_bytes > 0 && headroom_bytes <= figures.headroom_bytes / 2;
  return round >= figures.due_round || half_is_gone;
}

int64_t slice_for(const HookFigures& figures, int64_t wanted_bytes, int64_t least_bytes,
                  int64_t slice_ns) noexcept {
  wanted_bytes = std::max<int64_t>(wanted_bytes, 0);
  const double rate = hook_rate(figures);
  if (rate <= 0.0) return wanted_bytes;
  const double bytes = rate * static_cast<double>(std::max<int64_t>(slice_ns, 0)) / 1000.0;
  if (bytes >= static_cast<double>(wanted_bytes)) return wanted_bytes;
  return std::min(wanted_bytes, std::max(static_cast<int64_t>(bytes), least_bytes));
}

size_t order(uint64_t round, const HookFigures* const* hooks, size_t count, bool everyone,
             int64_t headroom_bytes, uint16_t* out) noexcept {
  size_t due = 0;
  for (size_t i = 0; i < count && due < kRankingMaxHooks; ++i) {
    if (hooks[i] == nullptr || (!everyone && !hook_due(*hooks[i], round, headroom_bytes))) continue;
    // Insertion keeps slot order among equals; 80 hooks at most.
    size_t at = due++;
    for (; at > 0 && before(*hooks[i], *hooks[out[at - 1]]); --at) out[at] = out[at - 1];
    out[at] = static_cast<uint16_t>(i);
  }
  if (due > 1 && round % kExploreEveryRounds == 0) {
    uint16_t* longest = std::min_element(out, out + due, [hooks](uint16_t a, uint16_t b) {
      return hooks[a]->last_round < hooks[b]->last_round;
    });
    std::rotate(out, longest, longest + 1);
  }
  return due;
}

}  // namespace memlimit
