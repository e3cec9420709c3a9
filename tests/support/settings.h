/* Settings as a test gives them: a few variables in, the Config and the complaints out. */
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "settings/config_values.h"
#include "settings/environment.h"

namespace memlimit::test {

struct Parsed {
  Config config;
  ConfigErrors errors;

  Source source(Option option) const { return config.state(option).source; }
  std::string line(int index) const { return errors.items[index].text; }
  std::string value(Option option) const {
    char out[Config::kPluginsCap];
    render_option(config, option, out, sizeof out);
    return out;
  }
};

inline Parsed parse(std::initializer_list<std::string> variables, bool secure = false) {
  std::vector<const char*> envp;
  for (const std::string& variable : variables) envp.push_back(variable.c_str());
  envp.push_back(nullptr);
  Parsed parsed;
  parsed.config = parse_config(envp.data(), secure, &parsed.errors);
  return parsed;
}

/** The one line that a bad value earns. */
inline std::string complaint(const std::string& variable) {
  const Parsed parsed = parse({variable});
  INFO(variable);
  REQUIRE(parsed.errors.count == 1);
  REQUIRE(parsed.errors.error_count == 1);
  CHECK(parsed.errors.items[0].severity == ConfigError::Severity::kError);
  return parsed.line(0);
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline constexpr Option kAllOptions[] = {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) Option::id,
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
};

}  // namespace memlimit::test
