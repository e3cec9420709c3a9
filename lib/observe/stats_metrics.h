/* Snapshot -> the text that Prometheus scrapes, in two forms that differ only in how a counter is
 * headed.
 *
 * OpenMetrics 1.0.0 heads a counter with its name less `_total`; the older Prometheus text format,
 * which `promtool check metrics` reads, with its name as it stands. No one text satisfies both. In
 * both, a family has HELP, TYPE and (a comment to the older one) UNIT, and the last line is # EOF.
 * Threads: any; pure, like stats_text.h.
 */
#pragma once

#include <cstdint>

#include "observe/stats.h"
#include "system/text.h"

namespace memlimit {

enum class MetricsForm : uint8_t { kPrometheus, kOpenMetrics };

/** Appends all metrics, names prefixed memlimit_, in base units (bytes, seconds). */
void render_metrics(const Snapshot& snapshot, MetricsForm form, TextWriter& out) noexcept;

}  // namespace memlimit
