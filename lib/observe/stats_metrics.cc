/* Metrics in Prometheus' and OpenMetrics' text forms; see stats_metrics.h. */
#include "observe/stats_metrics.h"

#include "observe/version.h"

namespace memlimit {
namespace {

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

/** A metric family's name without the suffixes of its samples, for example memlimit_hook_seconds.
 */
struct Family {
  std::string_view base; /* without memlimit_ and unit */
  MetricType type;
  StatUnit unit;
  std::string_view sentence;
};

std::string_view unit_name(StatUnit unit) noexcept {
  switch (unit) {
    case StatUnit::kBytes:
      return "bytes";
    case StatUnit::kNs:
      return "seconds";
    case StatUnit::kCount:
      break;
  }
  return {};
}

void put_name(TextWriter& out, const Family& family) noexcept {
  out.put("memlimit_").put(family.base);
  const std::string_view unit = unit_name(family.unit);
  if (!unit.empty()) out.put('_').put(unit);
}

void put_sample_name(TextWriter& out, const Family& family) noexcept {
  put_name(out, family);
  if (family.type == MetricType::kCounter) out.put("_total");
}

void put_head(TextWriter& out, const Family& family, MetricsForm form) noexcept {
  static constexpr std::string_view kTypes[] = {"counter", "gauge", "histogram"};
  const auto put_family_name = [&] {
    if (form == MetricsForm::kOpenMetrics) {
      put_name(out, family);
    } else {
      put_sample_name(out, family);
    }
  };
  out.put("# HELP ");
  put_family_name();
  out.put(' ').put(family.sentence).put("\n# TYPE ");
  put_family_name();
  out.put(' ').put(kTypes[static_cast<size_t>(family.type)]).put('\n');
  const std::string_view unit = unit_name(family.unit);
  if (!unit.empty()) {
    out.put("# UNIT ");
    put_family_name();
    out.put(' ').put(unit).put('\n');
  }
}

void put_value(TextWriter& out, StatUnit unit, int64_t value) noexcept {
  if (unit == StatUnit::kNs) {
    out.put_seconds(value);
  } else {
    out.put_int(value);
  }
}

/** A label's value: backslash, quote and newline escaped; what is not printable ASCII becomes '?',
 * since the text must be UTF-8 and a hook's name may be any bytes. */
void put_label(TextWriter& out, std::string_view name, std::string_view value) noexcept {
  out.put(name).put("=\"");
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == '"' || byte == '\\') out.put('\\');
    out.put(byte >= 0x20 && byte < 0x7f ? c : '?');
  }
  out.put('"');
}

/** The key less its unit: hook_ns -> hook. */
std::string_view base_of(const StatRow& row) noexcept {
  return row.unit == StatUnit::kNs ? row.key.substr(0, row.key.size() - 3) : row.key;
}

constexpr bool nanosecond_keys_end_in_ns() {
  for (const StatRow& row : kStatRows) {
    if ((row.unit == StatUnit::kNs) != row.key.ends_with("_ns")) return false;
  }
  return true;
}
static_assert(nanosecond_keys_end_in_ns(), "stats.inc: a key in Ns, and no other, ends in _ns");

void put_figures(const Snapshot& snapshot, MetricsForm form, TextWriter& out) noexcept {
  for (const StatRow& row : kStatRows) {
    const MetricType type =
        row.kind == StatKind::kCounter ? MetricType::kCounter : MetricType::kGauge;
    const Family family{base_of(row), type, row.unit, row.sentence};
    put_head(out, family, form);
    put_sample_name(out, family);
    out.put(' ');
    put_value(out, row.unit, snapshot.figures.*row.figure);
    out.put('\n');
  }
}

void put_histogram(const HistogramCopy& histogram, const Family& family, MetricsForm form,
                   TextWriter& out) noexcept {
  put_head(out, family, form);
  int64_t below = 0;
  for (size_t i = 0; i <= HistogramShape::kBounds; ++i) {
    below += histogram.bucket[i];
    put_name(out, family);
    out.put("_bucket{le=\"");
    out.put(i < HistogramShape::kBounds ? histogram.shape->label[i] : "+Inf");
    out.put("\"} ").put_int(below).put('\n');
  }
  put_name(out, family);
  out.put("_sum ");
  put_value(out, family.unit, histogram.sum);
  out.put('\n');
  put_name(out, family);
  out.put("_count ").put_int(below).put('\n');
}

struct HookFamily {
  Family family;
  int64_t HookRow::*figure;
};

constexpr HookFamily kHookFamilies[] = {
    {{"by_hook_calls", MetricType::kCounter, StatUnit::kCount, "Calls of this hook."},
     &HookRow::calls},
    {{"by_hook_skips", MetricType::kCounter, StatUnit::kCount, "Times this hook was passed over."},
     &HookRow::skips},
    {{"by_hook_freed", MetricType::kCounter, StatUnit::kBytes,
      "Bytes that this hook freed, as measured."},
     &HookRow::freed_bytes},
    {{"by_hook_time", MetricType::kCounter, StatUnit::kNs, "Time spent inside this hook."},
     &HookRow::ns},
    {{"by_hook_backoff", MetricType::kGauge, StatUnit::kCount,
      "Rounds left out before this hook is asked again."},
     &HookRow::backoff},
    {{"by_hook_overruns", MetricType::kCounter, StatUnit::kCount,
      "Calls of this hook that went past their deadline."},
     &HookRow::overruns},
    {{"by_hook_running", MetricType::kGauge, StatUnit::kNs,
      "How long the call of this hook lasts that is under way; 0 = none is."},
     &HookRow::running_ns},
};

void put_hooks(const Snapshot& snapshot, MetricsForm form, TextWriter& out) noexcept {
  if (snapshot.hook_count == 0) return;
  for (const HookFamily& row : kHookFamilies) {
    put_head(out, row.family, form);
    for (size_t i = 0; i < snapshot.hook_count; ++i) {
      const HookRow& hook = snapshot.hooks[i];
      std::string_view name(hook.name, sizeof hook.name);
      name = name.substr(0, name.find('\0'));
      put_sample_name(out, row.family);
      out.put('{');
      put_label(out, "hook", name);
      // Two hooks may have one name; without the id theirs would be one series.
      out.put(",id=\"").put_uint(hook.id).put("\",");
      put_label(out, "context", context_name(hook.context));
      out.put("} ");
      put_value(out, row.family.unit, hook.*row.figure);
      out.put('\n');
    }
  }
}

}  // namespace

void render_metrics(const Snapshot& snapshot, MetricsForm form, TextWriter& out) noexcept {
  const Family info{"process_info", MetricType::kGauge, StatUnit::kCount,
                    "Always 1; its labels tell the process and the number that is paced."};
  put_head(out, info, form);
  put_sample_name(out, info);
  out.put('{');
  put_label(out, "name", snapshot.name);
  out.put(",pid=\"").put_int(snapshot.pid).put("\",");
  put_label(out, "account", snapshot.account);
  out.put("} 1\n");

  const Family build{"build_info", MetricType::kGauge, StatUnit::kCount,
                     "Always 1; its label tells the version of the library."};
  put_head(out, build, form);
  put_sample_name(out, build);
  out.put('{');
  put_label(out, "version", kVersion);
  out.put("} 1\n");

  put_figures(snapshot, form, out);
  put_histogram(snapshot.round_ns,
                {"round_duration", MetricType::kHistogram, StatUnit::kNs, "Duration of a round."},
                form, out);
  put_histogram(snapshot.assist_ns,
                {"assist_wait", MetricType::kHistogram, StatUnit::kNs,
                 "Wait of an allocating thread for a round."},
                form, out);
  put_histogram(
      snapshot.freed_bytes,
      {"round_freed", MetricType::kHistogram, StatUnit::kBytes, "Bytes freed in a round."}, form,
      out);
  put_hooks(snapshot, form, out);
  out.put("# EOF\n");
}

}  // namespace memlimit
