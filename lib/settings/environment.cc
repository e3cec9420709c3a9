#include "settings/environment.h"

#include <iterator>
#include <string_view>

#include "settings/config_values.h"
#include "settings/spelling.h"
#include "system/text.h"

namespace memlimit {
namespace {

constexpr std::string_view kPrefix = "MEMLIMIT";

struct Variable {
  std::string_view name;
  std::string_view value;
};

Variable split(const char* entry) noexcept {
  const std::string_view text(entry);
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) return {text, {}};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

constexpr bool is_plain(char c) noexcept { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; }

/** In quotes, bytes outside printable ASCII as \xNN; cut after a screen's width, with its length.
 */
void put_quoted(TextWriter& out, std::string_view value) noexcept {
  constexpr size_t kShownWidth = 64;
  const size_t start = out.put('"').length();
  for (const char c : value) {
    if (out.length() - start >= kShownWidth) {
      out.put("\"... (").put_int(static_cast<int64_t>(value.size())).put(" bytes)");
      return;
    }
    if (is_plain(c)) {
      out.put(c);
    } else if (c == '"' || c == '\\') {
      out.put('\\').put(c);
    } else {
      out.put("\\x").put_uint(static_cast<unsigned char>(c), 16, 2);
    }
  }
  out.put('"');
}

class ErrorList {
 public:
  explicit ErrorList(ConfigErrors* errors) noexcept : errors_(errors) {
    errors_->count = 0;
    errors_->error_count = 0;
  }

  /** A writer for the next line; when all are taken, for the last one again. */
  TextWriter add(ConfigError::Severity severity) noexcept {
    if (severity == ConfigError::Severity::kError) ++errors_->error_count;
    if (errors_->count < ConfigErrors::kMax) ++errors_->count;
    ConfigError& item = errors_->items[errors_->count - 1];
    item.severity = severity;
    return {item.text, sizeof item.text};
  }

  void keep_only_errors() noexcept {
    int kept = 0;
    for (int i = 0; i < errors_->count; ++i) {
      if (errors_->items[i].severity != ConfigError::Severity::kError) continue;
      if (kept != i) errors_->items[kept] = errors_->items[i];
      ++kept;
    }
    errors_->count = kept;
  }

 private:
  ConfigErrors* errors_;
};

void put_consequence(TextWriter& out, Option option, bool strict) noexcept {
  if (strict) {
    out.put(" The program is not started");
  } else if (option == Option::kLimit) {
    out.put(" Running without a limit");
  } else {
    out.put(" Using ").put(option_default(option));
  }
}

void note_raw(OptionState& state, std::string_view value) noexcept {
  TextWriter raw(state.raw, sizeof state.raw);
  raw.put(value);
  state.raw_truncated = raw.truncated();
}

void read_option(Option option, std::string_view value, bool secure, Config& config,
                 ErrorList& errors) noexcept {
  using Severity = ConfigError::Severity;
  OptionState& state = config.states[static_cast<int>(option)];
  note_raw(state, value);

  char why[ConfigError::kCap];
  TextWriter reason(why, sizeof why);
  Verdict verdict = parse_value(option, value, secure, config, reason);
  if (verdict == Verdict::kDoubtful && config.strict) verdict = Verdict::kBad;
  switch (verdict) {
    case Verdict::kBad: {
      state.source = Source::kInvalid;
      TextWriter line = errors.add(Severity::kError);
      put_quoted(line.put(option_name(option)).put('='), value);
      line.put(' ').put(reason.view());
      put_consequence(line, option, config.strict);
      return;
    }
    case Verdict::kIgnored:
      state.source = Source::kIgnored;
      return;
    case Verdict::kDoubtful: {
      state.source = Source::kEnvironment;
      TextWriter line = errors.add(Severity::kWarning);
      put_quoted(line.put(option_name(option)).put('='), value);
      render_value(config, option, line.put(' ').put(reason.view()).put(" Using "));
      return;
    }
    case Verdict::kNotice: {
      state.source = Source::kEnvironment;
      TextWriter line = errors.add(Severity::kNotice);
      line.put(option_name(option)).put('=').put(value).put(' ').put(reason.view());
      return;
    }
    case Verdict::kOk:
      state.source = Source::kEnvironment;
      break;
  }
  if (option_has_effect(option)) return;
  char shown[64];
  TextWriter in_force(shown, sizeof shown);
  render_value(config, option, in_force);
  if (in_force.truncated() || in_force.view() != option_default(option)) {
    errors.add(Severity::kWarning)
        .put(option_name(option))
        .put(" has no effect in this version of memlimit");
  }
}

void note_unknown(std::string_view name, ErrorList& errors) noexcept {
  constexpr size_t kShown = 48;
  TextWriter line = errors.add(ConfigError::Severity::kWarning);
  for (const char c : name.substr(0, kShown)) line.put(is_plain(c) ? c : '?');
  if (name.size() > kShown) line.put("...");
  line.put(" is not a setting of memlimit");
  const std::string_view guess = nearest(name, kOptionNames, std::size(kOptionNames));
  if (!guess.empty()) line.put(": did you mean ").put(guess).put('?');
  line.put(guess.empty() ? ". It has no effect" : " It has no effect");
}

}  // namespace

Config parse_config(const char* const* envp, bool secure, ConfigErrors* errors) noexcept {
  Config config;
  ErrorList list(errors);
  std::string_view values[kOptionCount];
  constexpr int kMaxUnknown = ConfigErrors::kMax - kOptionCount;
  std::string_view unknown[kMaxUnknown];
  int unknown_count = 0;

  for (const char* const* entry = envp; entry != nullptr && *entry != nullptr; ++entry) {
    if (std::string_view(*entry).substr(0, kPrefix.size()) != kPrefix) continue;
    const Variable variable = split(*entry);
    int index = 0;
    while (index < kOptionCount && kOptionNames[index] != variable.name) ++index;
    if (index < kOptionCount) {
      if (values[index].data() == nullptr) values[index] = variable.value;
    } else if (variable.name.substr(0, kPrefix.size() + 1) == "MEMLIMIT_" &&
               unknown_count < kMaxUnknown) {
      unknown[unknown_count++] = variable.name;
    }
  }

  // Read first, and again in its turn: it is the consequence of what is wrong with the others.
  if (const std::string_view strict = values[static_cast<int>(Option::kStrict)]; !strict.empty()) {
    TextWriter unsaid(nullptr, 0);
    parse_value(Option::kStrict, strict, secure, config, unsaid);
  }
  for (int index = 0; index < kOptionCount; ++index) {
    if (values[index].empty()) continue;
    read_option(static_cast<Option>(index), values[index], secure, config, list);
  }
  for (int i = 0; i < unknown_count; ++i) note_unknown(unknown[i], list);
  if (config.log.level < LogLevel::kWarn) list.keep_only_errors();
  return config;
}

size_t format_error_line(int pid, const char* text, char* out, size_t cap) noexcept {
  if (cap < 2) {
    TextWriter(out, cap);
    return 0;
  }
  TextWriter line(out, cap - 1);
  line.put("memlimit[").put_int(pid).put("]: ").put(text);
  out[line.length()] = '\n';
  out[line.length() + 1] = '\0';
  return line.length() + 1;
}

}  // namespace memlimit
