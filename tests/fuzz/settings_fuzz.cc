/* libFuzzer target for settings: the size grammar on any text, and an environment of lines. What is accepted must be
 * accepted again in the form in which it is shown, and mean the same.
 *
 * The input is lines. One that begins with a capital letter and no '=' names an option by that letter (A the first),
 * and the rest is its value; any other line stands in the environment as it is.
 */
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "settings/config_values.h"
#include "settings/environment.h"
#include "settings/units.h"

namespace {

using namespace memlimit;

void check(bool held) {
  if (!held) abort();
}

bool is_line(const char* text, size_t cap) {
  const size_t length = strnlen(text, cap);
  return length > 0 && length < cap && std::none_of(text, text + length, [](char c) {
           return static_cast<unsigned char>(c) < 0x20;
         });
}

void check_size(std::string_view text) {
  SizeError error;
  const auto bytes = parse_size(text, &error);
  check(bytes.has_value() == (error == SizeError::kNone));
  char line[64];
  if (bytes) {
    check(*bytes >= 0);
    const size_t length = format_size_exact(*bytes, line, sizeof line);
    check(parse_size({line, length}, nullptr) == bytes);
    check(format_size(*bytes, line, sizeof line) < sizeof line);
  }
  const size_t length = suggest_size(text, line, sizeof line);
  check(length < sizeof line && line[length] == '\0');
  std::string_view rest(line, length);
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(" or "), rest.size());
    check(parse_size(rest.substr(0, end), nullptr).has_value());
    rest.remove_prefix(std::min(end + 4, rest.size()));
  }
}

void check_limit(std::string_view text) {
  LimitSetting limit;
  char why[ConfigError::kCap] = {};
  if (parse_limit(text, &limit, why, sizeof why)) {
    check(limit.kind != LimitKind::kBytes || limit.bytes >= 1);
    check(limit.kind != LimitKind::kPercent || (limit.percent >= 1 && limit.percent <= 100));
  } else {
    check(limit.kind == LimitKind::kOff && limit.bytes == 0);
    check(is_line(why, sizeof why));
  }
}

Config parse(const std::vector<std::string>& lines, bool secure, ConfigErrors* errors) {
  std::vector<const char*> environment;
  environment.reserve(lines.size() + 1);
  for (const std::string& line : lines) environment.push_back(line.c_str());
  environment.push_back(nullptr);
  const Config config = parse_config(environment.data(), secure, errors);
  check(errors->count >= 0 && errors->count <= ConfigErrors::kMax);
  check(errors->error_count >= 0 && errors->error_count <= errors->count);
  for (int i = 0; i < errors->count; ++i) {
    char line[64 + ConfigError::kCap];
    check(is_line(errors->items[i].text, ConfigError::kCap));
    const size_t length = format_error_line(1, errors->items[i].text, line, sizeof line);
    check(length > 0 && line[length - 1] == '\n');
    check(format_error_line(1, errors->items[i].text, line, 24) <= 24);
  }
  return config;
}

std::string value_of(const Config& config, Option option) {
  char text[8192];
  const size_t length = render_option(config, option, text, sizeof text);
  check(length < sizeof text);
  return {text, length};
}

void check_environment(const std::vector<std::string>& lines, bool secure) {
  ConfigErrors errors;
  const Config config = parse(lines, secure, &errors);
  check(config.start_percent >= 1 && config.start_percent <= 99);
  check(config.growth_percent >= 0 && config.report_seconds >= 0 && config.assist_ns >= 0);
  check(config.socket_mode <= 0777);

  // What is in force, written down as settings again.
  std::vector<std::string> shown;
  for (int i = 0; i < kOptionCount; ++i) {
    const auto option = static_cast<Option>(i);
    const Source source = config.state(option).source;
    check(strlen(source_name(source)) > 0);
    const std::string value = value_of(config, option);
    if (source != Source::kEnvironment) check(value == option_default(option));
    shown.push_back(std::string(option_name(option)) + "=" + value);
  }
  ConfigErrors again_errors;
  const Config again = parse(shown, false, &again_errors);
  check(again_errors.error_count == 0);
  for (int i = 0; i < kOptionCount; ++i) {
    const auto option = static_cast<Option>(i);
    check(value_of(again, option) == value_of(config, option));
  }

  static char text[64 << 10];
  const size_t length = render_config(config, text, sizeof text);
  check(length < sizeof text && std::count(text, text + length, '\n') >= kOptionCount);
  char little[128];
  check(render_config(config, little, sizeof little) < sizeof little);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> lines;
  for (std::string_view rest = input; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    // As in an environment, nothing comes after a NUL.
    std::string_view line = rest.substr(0, end);
    line = line.substr(0, line.find('\0'));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty()) continue;
    const int index = line.front() - 'A';
    const bool named = index >= 0 && index < kOptionCount && line.find('=') == line.npos;
    if (named) {
      line.remove_prefix(1);
      check_size(line);
      check_limit(line);
      lines.push_back(option_name(static_cast<Option>(index)) + ("=" + std::string(line)));
    } else {
      lines.emplace_back(line);
    }
  }
  check_environment(lines, false);
  check_environment(lines, true);
  return 0;
}
