/* MEMLIMIT_ADAPTERS, _REPORT, _PRESSURE, _STRICT, _ASSIST and _PROFILE: a word, a flag or a number.
 *
 * Answers for: a name that no adapter has is refused, or a misspelt one would turn off the very runtime that was meant.
 */
#include "settings/value_kinds.h"

#include <iterator>
#include <optional>

#include "settings/spelling.h"
#include "settings/units.h"

namespace memlimit::kinds {
namespace {

constexpr int64_t kMaxReportSeconds = 86'400;
constexpr int64_t kMaxAssistNs = 1'000'000'000;
/* Below, the tables fill with what tells nothing more. */
constexpr int64_t kLeastProfileBytes = int64_t{1} << 10;
constexpr int64_t kMostProfileBytes = int64_t{1} << 40;
constexpr size_t kShownName = 32; /* of one that no adapter has */

bool is_adapter(std::string_view name) noexcept {
  for (const std::string_view known : kAdapterNames) {
    if (name == known) return true;
  }
  return false;
}

Verdict unknown_adapter(std::string_view name, TextWriter& why) noexcept {
  why.put("names an unknown runtime, ").put_escaped(name, kShownName).put(": ");
  while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
  while (!name.empty() && name.back() == ' ') name.remove_suffix(1);
  std::string_view guess = nearest(name, kAdapterNames, std::size(kAdapterNames));
  if (one_of(name, {"node", "nodejs", "node.js", "javascript", "js"})) guess = "v8";
  if (one_of(name, {"java", "hotspot", "openjdk", "jdk"})) guess = "jvm";
  if (name.starts_with("php") || one_of(name, {"zend", "fpm"})) guess = "php";
  if (one_of(name, {"erlang", "elixir", "otp"})) guess = "beam";
  if (!guess.empty()) {
    why.put("did you mean ").put(guess).put('?');
    return Verdict::kBad;
  }
  why.put("known are");
  for (const std::string_view known : kAdapterNames) {
    why.put(known == kAdapterNames[0] ? " " : ", ").put(known);
  }
  why.put('.');
  return Verdict::kBad;
}

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
  if (names.put(text).truncated()) {
    return bad(why, "too long", "", "a list of adapters may have 255 bytes");
  }
  for (std::string_view rest = text;;) {
    const size_t comma = rest.find(',');
    const std::string_view name = rest.substr(0, comma);
    if (name.empty()) {
      return bad(why, "not a list of adapters", "",
                 "write auto, none, or names with commas between (cpython,sqlite)");
    }
    if (!is_adapter(name)) return unknown_adapter(name, why);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
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

Verdict parse_profile_text(std::string_view text, int64_t& interval_bytes,
                           TextWriter& why) noexcept {
  constexpr std::string_view kForms =
      "write on, off, or the mean distance of samples, from 1KiB to 1TiB (512KiB)";
  // A flag first: "1" is no distance.
  if (const auto flag = read_flag(text)) {
    interval_bytes = *flag ? kDefaultProfileBytes : 0;
    return Verdict::kOk;
  }
  SizeError error;
  if (const auto bytes = parse_size(text, &error)) {
    if (*bytes < kLeastProfileBytes || *bytes > kMostProfileBytes)
      return bad(why, "out of range", "", kForms);
    interval_bytes = *bytes;
    return Verdict::kOk;
  }
  char guess[64];
  if (suggest_size(text, guess, sizeof guess) > 0)
    return bad(why, "not a number of bytes", guess, kForms);
  return bad(why, "neither on, off nor a number of bytes", nearest(text, {"on", "off"}), kForms);
}

Verdict parse_profile(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  return parse_profile_text(text, config.profile_interval_bytes, why);
}

void render_profile(const Config& config, TextWriter& out) noexcept {
  if (config.profile_interval_bytes == 0) {
    out.put("off");
  } else if (config.profile_interval_bytes == kDefaultProfileBytes) {
    out.put("on");
  } else {
    char text[32];
    out.put({text, format_size_exact(config.profile_interval_bytes, text, sizeof text)});
  }
}

}  // namespace memlimit::kinds
