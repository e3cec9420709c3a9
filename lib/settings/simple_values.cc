/* MEMLIMIT_ADAPTERS, _REPORT, _PRESSURE, _STRICT and _ASSIST: a word, a flag or a number.
 *
 * Refuses to know which adapters there are: the registry of runtimes does.
 */
#include "settings/value_kinds.h"

#include <optional>

#include "settings/spelling.h"

namespace memlimit::kinds {
namespace {

constexpr int64_t kMaxReportSeconds = 86'400;
constexpr int64_t kMaxAssistNs = 1'000'000'000;

}  // namespace

Verdict parse_adapters(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  AdapterSetting adapters;
  if (text == "auto" || text == "none") {
    adapters.kind = text == "auto" ? AdapterKind::kAuto : AdapterKind::kNone;
    config.adapters = adapters;
    return Verdict::kOk;
  }
  if (text == "off") return bad(why, "not a list of adapters", "none", "");
  adapters.kind = AdapterKind::kList;
  TextWriter names(adapters.names, sizeof adapters.names);
  char previous = ',';
  for (const char c : text) {
    const bool letter = c >= 'a' && c <= 'z';
    const bool inner = previous != ',' && (is_digit(c) || c == '_' || c == '-' || c == ',');
    if (!letter && !inner) {
      return bad(why, "not a list of adapters", "",
                 "write auto, none, or lower-case names with commas between (cpython,sqlite)");
    }
    names.put(c);
    previous = c;
  }
  if (previous == ',') return bad(why, "not a list of adapters", "", "it ends in a comma");
  if (names.truncated()) {
    return bad(why, "too long", "", "a list of adapters may have 255 bytes");
  }
  config.adapters = adapters;
  return Verdict::kOk;
}

void render_adapters(const Config& config, TextWriter& out) noexcept {
  switch (config.adapters.kind) {
    case AdapterKind::kAuto:
      out.put("auto");
      break;
    case AdapterKind::kNone:
      out.put("none");
      break;
    case AdapterKind::kList:
      out.put(config.adapters.names);
      break;
  }
}

Verdict parse_report(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  constexpr std::string_view kForms = "write whole seconds from 1 to 86400, or off";
  if (text == "off") {
    config.report_seconds = 0;
    return Verdict::kOk;
  }
  std::string_view digits = text;
  take_suffix(digits, "s");
  const auto seconds = read_number(digits, INT64_MAX);
  if (!seconds) return bad(why, "not a number of seconds", nearest(text, {"off"}), kForms);
  if (*seconds > kMaxReportSeconds) return bad(why, "too long", "", kForms);
  config.report_seconds = *seconds;
  return Verdict::kOk;
}

void render_report(const Config& config, TextWriter& out) noexcept {
  if (config.report_seconds == 0) {
    out.put("off");
  } else {
    out.put_int(config.report_seconds);
  }
}

namespace {

std::optional<bool> read_flag(std::string_view text) noexcept {
  if (one_of(text, {"on", "1", "yes", "true"})) return true;
  if (one_of(text, {"off", "0", "no", "false"})) return false;
  return std::nullopt;
}

}  // namespace

Verdict parse_pressure(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  const auto flag = read_flag(text);
  if (!flag) {
    return bad(why, "neither on nor off", nearest(text, {"on", "off", "yes", "true", "false"}),
               "write on or off");
  }
  config.pressure = *flag;
  return Verdict::kOk;
}
void render_pressure(const Config& config, TextWriter& out) noexcept {
  out.put(config.pressure ? "on" : "off");
}

Verdict parse_strict(std::string_view text, bool secure, Config& config, TextWriter& why) noexcept {
  // A privileged program that ended with 0 would look as if it had done its work.
  if (secure && text == "check") return Verdict::kIgnored;
  const auto flag = text == "check" ? true : read_flag(text);
  if (!flag) {
    return bad(why, "none of on, off and check",
               nearest(text, {"on", "off", "yes", "true", "false", "check"}),
               "write on, off or check");
  }
  config.strict = *flag;
  config.check = text == "check";
  return Verdict::kOk;
}
void render_strict(const Config& config, TextWriter& out) noexcept {
  out.put(config.check ? "check" : config.strict ? "on" : "off");
}

Verdict parse_assist(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  constexpr std::string_view kForms = "write milliseconds up to 1000 (2ms), 500us, or off";
  if (text == "off") {
    config.assist_ns = 0;
    return Verdict::kOk;
  }
  std::string_view digits = text;
  int64_t unit_ns = 1'000'000;
  if (take_suffix(digits, "us")) {
    unit_ns = 1000;
  } else {
    take_suffix(digits, "ms");
  }
  const auto count = read_number(digits, INT64_MAX);
  if (!count) return bad(why, "not a duration", nearest(text, {"off"}), kForms);
  if (*count > kMaxAssistNs / unit_ns) return bad(why, "too long", "", kForms);
  config.assist_ns = *count * unit_ns;
  return Verdict::kOk;
}

void render_assist(const Config& config, TextWriter& out) noexcept {
  constexpr int64_t kNsPerUs = 1000, kNsPerMs = 1'000'000;
  if (config.assist_ns == 0) {
    out.put("off");
  } else if (config.assist_ns % kNsPerMs == 0) {
    out.put_int(config.assist_ns / kNsPerMs).put("ms");
  } else {
    out.put_int(config.assist_ns / kNsPerUs).put("us");
  }
}

}  // namespace memlimit::kinds
