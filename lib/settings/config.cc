#include "settings/config.h"

namespace memlimit {

int Config::invalid_count() const noexcept {
  int count = 0;
  for (const OptionState& state : states) count += state.source == Source::kInvalid ? 1 : 0;
  return count;
}

const char* source_name(Source source) noexcept {
  switch (source) {
    case Source::kDefault:
      return "default";
    case Source::kEnvironment:
      return "environment";
    case Source::kInvalid:
      return "invalid";
    case Source::kIgnored:
      return "ignored";
  }
  return "default";
}

const char* log_level_name(LogLevel level) noexcept {
  return kLogLevelNames[static_cast<int>(level)].data();
}

bool adapter_wanted(const Config& config, std::string_view name) noexcept {
  if (config.adapters.kind != AdapterKind::kList) {
    return config.adapters.kind == AdapterKind::kAuto;
  }
  for (std::string_view rest = config.adapters.names; !rest.empty();) {
    const size_t comma = rest.find(',');
    if (rest.substr(0, comma) == name) return true;
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace memlimit
