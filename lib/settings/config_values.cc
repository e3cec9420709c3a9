#include "settings/config_values.h"

#include "settings/value_kinds.h"

namespace memlimit {

Verdict parse_value(Option option, std::string_view text, bool secure, Config& config,
                    TextWriter& why) noexcept {
  switch (option) {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) \
  case Option::id:                                                       \
    return kinds::parse_##kind(text, secure, config, why);
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
  }
  return Verdict::kBad;
}

void render_value(const Config& config, Option option, TextWriter& out) noexcept {
  switch (option) {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) \
  case Option::id:                                                       \
    return kinds::render_##kind(config, out);
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
  }
}

bool parse_limit(std::string_view text, LimitSetting* out, char* why, size_t why_cap) noexcept {
  TextWriter writer(why, why_cap);
  LimitSetting limit;
  const Verdict verdict = kinds::parse_limit_text(text, limit, writer);
  if (verdict == Verdict::kBad || verdict == Verdict::kDoubtful) return false;
  *out = limit;
  return true;
}

bool parse_profile(std::string_view text, int64_t* out, char* why, size_t why_cap) noexcept {
  TextWriter writer(why, why_cap);
  return kinds::parse_profile_text(text, *out, writer) == Verdict::kOk;
}

size_t render_config(const Config& config, char* out, size_t cap) noexcept {
  constexpr size_t kNameWidth = 22, kValueWidth = 16, kSourceWidth = 12;
  TextWriter writer(out, cap);
  for (int index = 0; index < kOptionCount; ++index) {
    const auto option = static_cast<Option>(index);
    const OptionState& state = config.state(option);
    char value[Config::kPluginsCap];
    const size_t length = render_option(config, option, value, sizeof value);

    size_t start = writer.length();
    writer.put(option_name(option)).pad_to(start, kNameWidth);
    start = writer.length();
    writer.put_column({value, length}).pad_to(start, kValueWidth).put(' ');
    start = writer.length();
    writer.put(source_name(state.source)).pad_to(start, kSourceWidth).put(' ');
    const bool unused = state.source == Source::kInvalid || state.source == Source::kIgnored;
    if (unused) {
      writer.put_column(state.raw);
      if (state.raw_truncated) writer.put("...");
    } else {
      writer.put('-');
    }
    if (!option_has_effect(option)) writer.put(" no-effect-in-this-version");
    writer.put('\n');
  }
  return writer.length();
}

size_t render_option(const Config& config, Option option, char* out, size_t cap) noexcept {
  TextWriter writer(out, cap);
  render_value(config, option, writer);
  return writer.length();
}

}  // namespace memlimit
