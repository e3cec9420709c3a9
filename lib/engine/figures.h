/* The engine's figures for the statistics: asks each owner for its own.
 *
 * Refuses to render (observe/stats_text.h). Threads: any, no reentrancy guard needed; takes the locks of the owners one
 * after the other, and reads /proc.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"
#include "memlimit.h"
#include "observe/stats.h"

namespace memlimit::figures {

/* The socket is asked for figures up to a hundred times a second, and reading /proc/self/status was 46 of
 * the 110 microseconds that an answer then took (measured at that rate, so with cold caches). */
inline constexpr int64_t kRssAgeNs = 100'000'000;

/** At start: settings that were refused. */
void configure(int64_t invalid_settings) noexcept;

/** Fills in what the engine knows: the figures alone, or with histograms, hooks and texts but
 *  the name. Reads /proc: rss_anon may be max_age_ns old, in a Snapshot kRssAgeNs. About a hundred bytes
 *  of stack, or as much as the Snapshot. */
void fill(memlimit_stats* figures, int64_t max_age_ns = 0) noexcept;
void fill(Snapshot* snapshot) noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::figures
