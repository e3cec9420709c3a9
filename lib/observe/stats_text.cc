/* The files of the statistics socket; see stats_text.h. The metrics are in stats_metrics.cc. */
#include "observe/stats_text.h"

#include "observe/stats_metrics.h"
#include "observe/version.h"
#include "system/text.h"

namespace memlimit {
namespace {

/** The shape of /proc/self/status: a key, a tab, the number right-aligned in 8 columns, " kB". */
void put_kb(TextWriter& out, std::string_view key, int64_t bytes) noexcept {
  out.put(key).put(":\t").put_right(bytes / 1024, 8).put(" kB\n");
}

void put_text(TextWriter& out, std::string_view key, std::string_view text) noexcept {
  out.put(key).put(":\t").put(text).put('\n');
}

void put_count(TextWriter& out, std::string_view key, int64_t count) noexcept {
  out.put(key).put(":\t").put_int(count).put('\n');
}

void put_limiter(TextWriter& out, const Snapshot& snapshot) noexcept {
  const memlimit_stats& f = snapshot.figures;
  out.put("Limiter:\t");
  if (f.limiter_on == 0) {
    out.put("off");
  } else if (snapshot.let_go_for_time) {
    out.put("on (reclaim took more than half of the CPU time)");
  } else {
    out.put("on (not enough can be given back: ").put_int(f.limiter_needed / 1024);
    out.put(" kB remain)");
  }
  out.put('\n');
}

std::string_view hook_name(const HookRow& row) noexcept {
  const std::string_view name(row.name, sizeof row.name);
  return name.substr(0, name.find('\0'));
}

/** The one that has been running for longest, and for how long. */
void put_running_hook(TextWriter& out, const Snapshot& snapshot) noexcept {
  const HookRow* longest = nullptr;
  for (size_t i = 0; i < snapshot.hook_count; ++i) {
    const HookRow& row = snapshot.hooks[i];
    if (row.running_ns > (longest == nullptr ? 0 : longest->running_ns)) longest = &row;
  }
  if (longest == nullptr) return;
  out.put("HookRuns:\t").put_escaped(hook_name(*longest));
  out.put(" for ").put_int(longest->running_ns / 1'000'000).put(" ms\n");
}

void render_status(const Snapshot& snapshot, TextWriter& out) noexcept {
  const memlimit_stats& f = snapshot.figures;
  out.put("Name:\t").put_escaped(snapshot.name).put('\n');
  put_count(out, "Pid", snapshot.pid);
  if (f.limit > 0) {
    put_kb(out, "MemLimit", f.limit);
  } else {
    put_text(out, "MemLimit", snapshot.limit_invalid ? "off (the setting is invalid)" : "off");
  }
  if (snapshot.limit_source[0] != '\0') {
    out.put("LimitFrom:\t")
        .put_escaped(snapshot.limit_source, sizeof snapshot.limit_source)
        .put('\n');
  }
  if (snapshot.account[0] != '\0') put_text(out, "Account", snapshot.account);
  put_kb(out, "HeapAlloc", f.heap_alloc);
  put_kb(out, "HeapPeak", f.heap_peak);
  put_kb(out, "TotalAlloc", f.total_alloc);
  put_kb(out, "TotalFreed", f.total_freed);
  put_kb(out, "Charged", f.charged);
  put_kb(out, "Mapped", f.mapped);
  put_kb(out, "Paced", f.paced);
  if (f.limit > 0) {
    put_kb(out, "Headroom", f.headroom);
  } else {
    put_text(out, "Headroom", "unlimited");
  }
  put_kb(out, "RssAnon", f.rss_anon);
  if (f.cgroup_used > 0) put_kb(out, "CgroupUsed", f.cgroup_used);
  put_kb(out, "HeldIdle", f.held_idle);
  put_text(out, "Level", level_name(f.level));
  put_count(out, "Rounds", f.rounds);
  put_count(out, "Hooks", f.hooks);
  put_count(out, "HookCalls", f.hook_calls);
  put_count(out, "HookOverruns", f.hook_overruns);
  put_running_hook(out, snapshot);
  put_kb(out, "Reclaimed", f.reclaimed);
  put_kb(out, "Purged", f.purged);
  put_kb(out, "Overshoot", f.overshoot_peak);
  put_count(out, "Oversized", f.oversized);
  put_count(out, "Assists", f.assists);
  put_limiter(out, snapshot);
  if (snapshot.left_out[0] != '\0') {
    out.put("NotAsked:\t").put_escaped(snapshot.left_out, sizeof snapshot.left_out).put('\n');
  }
  put_count(out, "Threads", f.threads);
  out.put("Uptime:\t").put_int(f.uptime_ns / 1'000'000'000).put(" s\n");
  put_text(out, "Version", kVersion);
}

void render_stat(const memlimit_stats& figures, TextWriter& out) noexcept {
  for (const StatRow& row : kStatRows) {
    out.put(row.key).put(' ').put_int(figures.*row.figure).put('\n');
  }
}

/** A name as one word of a table: blanks would break its columns for awk and cut. */
void put_word(TextWriter& out, std::string_view name, size_t width) noexcept {
  const size_t before = out.length();
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    out.put(byte <= 0x20 || byte == 0x7f ? '_' : c);
  }
  out.pad_to(before, width);
}

void render_hooks(const Snapshot& snapshot, TextWriter& out) noexcept {
  // One column width for every row, from the widest name, so that a terminal shows a table.
  size_t width = 4;
  for (size_t i = 0; i < snapshot.hook_count; ++i) {
    const size_t length = hook_name(snapshot.hooks[i]).size();
    if (length > width) width = length;
  }
  put_word(out, "name", width);
  out.put(
      " context        calls      skips          freed            us   bytes/us backoff"
      "           last   overruns    running-us\n");
  for (size_t i = 0; i < snapshot.hook_count; ++i) {
    const HookRow& row = snapshot.hooks[i];
    put_word(out, hook_name(row), width);
    out.put(' ');
    put_word(out, context_name(row.context), 9);
    out.put_right(row.calls, 11).put_right(row.skips, 11).put_right(row.freed_bytes, 15);
    out.put_right(row.ns / 1000, 14).put_right(row.bytes_per_us, 11).put_right(row.backoff, 8);
    if (row.calls == 0) {
      out.put("              -");
    } else if (row.last_result == MEMLIMIT_CANNOT_NOW) {
      out.put("     cannot-now");
    } else {
      out.put_right(row.last_result, 15);
    }
    out.put_right(row.overruns, 11);
    if (row.running_ns == 0) {
      out.put("             -\n");
    } else {
      out.put_right(row.running_ns / 1000, 14).put('\n');
    }
  }
}

void render_limit(const memlimit_stats& figures, TextWriter& out) noexcept {
  if (figures.limit > 0) {
    out.put_int(figures.limit).put('\n');
  } else {
    out.put("off\n");
  }
}

void render_events_head(const memlimit_stats& figures, TextWriter& out) noexcept {
  out.put("state level=").put(level_name(figures.level)).put(" limit=").put_int(figures.limit);
  out.put(" heap_alloc=").put_int(figures.heap_alloc).put(" paced=").put_int(figures.paced);
  out.put(" rounds=").put_int(figures.rounds);
  out.put(" limiter_on=").put_int(figures.limiter_on).put('\n');
}

void render_list(TextWriter& out) noexcept {
  for (const StatsFileRow& row : kStatsFiles) {
    put_word(out, row.name, 12);
    out.put(row.sentence).put('\n');
  }
}

}  // namespace

size_t render_figures(StatsFile file, const memlimit_stats& figures, char* buffer,
                      size_t cap) noexcept {
  TextWriter out(buffer, cap);
  if (file == StatsFile::kStat) render_stat(figures, out);
  if (file == StatsFile::kLimit) render_limit(figures, out);
  if (file == StatsFile::kEvents) render_events_head(figures, out);
  if (file == StatsFile::kList) render_list(out);
  if (out.truncated()) out.drop_partial_line();
  return out.length();
}

size_t render_file(StatsFile file, const Snapshot& snapshot, char* buffer, size_t cap) noexcept {
  if (shows_figures_only(file)) return render_figures(file, snapshot.figures, buffer, cap);
  TextWriter out(buffer, cap);
  if (file == StatsFile::kStatus) render_status(snapshot, out);
  if (file == StatsFile::kHooks) render_hooks(snapshot, out);
  if (file == StatsFile::kMetrics) render_metrics(snapshot, MetricsForm::kPrometheus, out);
  if (file == StatsFile::kOpenMetrics) render_metrics(snapshot, MetricsForm::kOpenMetrics, out);
  if (out.truncated()) out.drop_partial_line();
  return out.length();
}

}  // namespace memlimit
