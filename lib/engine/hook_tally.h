/* What came of asking a hook, or a language runtime, for memory: figures that both have alike, since the `hooks` file
 * shows them side by side.
 *
 * Answers for: the sums, and a row for the statistics. Refuses to measure, and to say who is asked (ranking.h goes by
 * `figures`). Threads: under the lock of the table that it stands in.
 */
#pragma once

#include <algorithm>
#include <cstdint>

#include "memlimit.h"
#include "observe/stats.h"
#include "pacing/ranking.h"

namespace memlimit::hooks {

/** Sums over all hooks, removed ones included. */
struct Sums {
  int64_t calls = 0, skips = 0, ns = 0;
  int64_t overruns = 0;                /* calls that went past their deadline */
  int64_t running = 0, running_ns = 0; /* now, and the longest of them */

  Sums& operator+=(const Sums& other) noexcept {
    calls += other.calls;
    skips += other.skips;
    ns += other.ns;
    overruns += other.overruns;
    running += other.running;
    running_ns = std::max(running_ns, other.running_ns);
    return *this;
  }
};

struct Tally {
  HookFigures figures;
  int64_t calls = 0, skips = 0, freed_bytes = 0, ns = 0, last_result = 0, overruns = 0;

  /** A call ended. `figures` are for the caller to keep: what counts there differs. */
  void add(bool could, int64_t call_freed_bytes, int64_t call_ns) noexcept {
    calls += 1;
    skips += could ? 0 : 1;
    freed_bytes += call_freed_bytes;
    ns += call_ns;
    last_result = could ? call_freed_bytes : MEMLIMIT_CANNOT_NOW;
  }

  Sums sums() const noexcept { return {calls, skips, ns, overruns, 0, 0}; }

  /** All of a row but its name, id and context, as of a hook that is not running. */
  void fill(HookRow& row) const noexcept {
    row.calls = calls;
    row.skips = skips;
    row.freed_bytes = freed_bytes;
    row.ns = ns;
    row.bytes_per_us = static_cast<int64_t>(hook_rate(figures));
    row.backoff = figures.interval - 1;
    row.last_result = last_result;
    row.overruns = overruns;
    row.running_ns = 0;
  }
};

}  // namespace memlimit::hooks
