/* Reading the environment: what is said about bad values and unknown names, and what follows. */
#include "settings/environment.h"

#include <algorithm>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "support/settings.h"

using memlimit::AccountMode;
using memlimit::AdapterKind;
using memlimit::Config;
using memlimit::ConfigError;
using memlimit::ConfigErrors;
using memlimit::kOptionCount;
using memlimit::LimitKind;
using memlimit::LogLevel;
using memlimit::Option;
using memlimit::parse_config;
using memlimit::SocketKind;
using memlimit::Source;
using memlimit::test::complaint;
using memlimit::test::contains;
using memlimit::test::kAllOptions;
using memlimit::test::parse;
using memlimit::test::Parsed;

TEST_CASE("environment: an empty environment gives the defaults in silence", "[environment]") {
  const char* const nothing[] = {nullptr};
  for (const char* const* envp : {static_cast<const char* const*>(nullptr), nothing}) {
    ConfigErrors errors;
    const Config config = parse_config(envp, false, &errors);
    CHECK(errors.count == 0);
    CHECK(config.limit.kind == LimitKind::kOff);
    CHECK(config.start_percent == 50);
    CHECK(config.growth_percent == 0);
    CHECK(config.account == AccountMode::kAuto);
    CHECK(config.socket.kind == SocketKind::kDefault);
    CHECK(config.socket_mode == 0600);
    CHECK(config.adapters.kind == AdapterKind::kAuto);
    CHECK(config.log.level == LogLevel::kWarn);
    CHECK(config.assist_ns == 2'000'000);
  }
}

TEST_CASE("environment: an empty value is as good as none, in silence", "[environment]") {
  for (const Option option : kAllOptions) {
    INFO(option_name(option));
    const Parsed parsed = parse({std::string(option_name(option)) + "="});
    CHECK(parsed.errors.count == 0);
    CHECK(parsed.source(option) == Source::kDefault);
    CHECK(parsed.value(option) == option_default(option));
  }
}

TEST_CASE("environment: a bad limit is named, explained and has its consequence told",
          "[environment]") {
  CHECK(complaint("MEMLIMIT=512MB") ==
        "MEMLIMIT=\"512MB\" is not a size: did you mean 512MiB or 488MiB? Running without a limit");
  CHECK(complaint("MEMLIMIT=512 MiB") ==
        "MEMLIMIT=\"512 MiB\" is not a size: did you mean 512MiB? Running without a limit");
  CHECK(complaint("MEMLIMIT=lots") ==
        "MEMLIMIT=\"lots\" is not a size: write a number with B, KiB, MiB, GiB or TiB (512MiB), a "
        "percentage of the container's memory (80%), auto or off. Running without a limit");
  CHECK(contains(complaint("MEMLIMIT=OFF"), "did you mean off?"));
  CHECK(contains(complaint("MEMLIMIT=Auto"), "did you mean auto?"));
  CHECK(contains(complaint("MEMLIMIT=unlimited"), "did you mean off?"));
  CHECK(contains(complaint("MEMLIMIT=-1"), "did you mean off?"));
  CHECK(contains(complaint("MEMLIMIT=80 %"), "is not a percentage: did you mean 80%?"));
  CHECK(contains(complaint("MEMLIMIT=0.8"), "is not a percentage: did you mean 80%?"));
  CHECK(contains(complaint("MEMLIMIT=12.5%"), "write a whole one from 1% to 100%."));
  CHECK(contains(complaint("MEMLIMIT=0%"), "is outside of 1% to 100%: write off for no limit."));
  CHECK(contains(complaint("MEMLIMIT=101%"), "is outside of 1% to 100%"));
  CHECK(contains(complaint("MEMLIMIT=99999999999999999999%"), "is not a percentage"));
  CHECK(contains(complaint("MEMLIMIT=%"), "is not a percentage"));
  CHECK(contains(complaint("MEMLIMIT=9999999TiB"), "is too large: sizes end at 8388607TiB"));
}

TEST_CASE("environment: under MEMLIMIT_STRICT the consequence is that nothing starts",
          "[environment]") {
  // Whatever the order of the variables.
  for (const Parsed& parsed : {parse({"MEMLIMIT=512MB", "MEMLIMIT_STRICT=1"}),
                               parse({"MEMLIMIT_STRICT=1", "MEMLIMIT=512MB"})}) {
    REQUIRE(parsed.errors.error_count == 1);
    CHECK(contains(parsed.errors.items[0].text, "? The program is not started"));
    CHECK(parsed.config.strict);
  }
  const Parsed loose = parse({"MEMLIMIT=512MB", "MEMLIMIT_STRICT=0"});
  CHECK(contains(loose.errors.items[0].text, "? Running without a limit"));
}

TEST_CASE("environment: a bad value leaves the option unset and says so in its source",
          "[environment]") {
  const Parsed parsed = parse({"MEMLIMIT=512MB", "MEMLIMIT_START=60%"});
  CHECK(parsed.config.limit.kind == LimitKind::kOff);
  CHECK(parsed.source(Option::kLimit) == Source::kInvalid);
  CHECK(std::string(parsed.config.state(Option::kLimit).raw) == "512MB");
  CHECK(parsed.source(Option::kStart) == Source::kEnvironment);
  CHECK(parsed.config.start_percent == 60);
}

TEST_CASE("environment: every option refuses nonsense with one line and keeps its default",
          "[environment]") {
  for (const Option option : kAllOptions) {
    const std::string name = option_name(option);
    for (const std::string nonsense : {"?!", " ", "\x01\xff", "1 2 3", "--"}) {
      INFO(name << "=" << nonsense);
      const Parsed parsed = parse({name + "=" + nonsense});
      REQUIRE(parsed.errors.count == 1);
      CHECK(parsed.errors.error_count == 1);
      CHECK(parsed.line(0).substr(0, name.size() + 2) == name + "=\"");
      CHECK(contains(parsed.line(0), ": "));
      CHECK(parsed.source(option) == Source::kInvalid);
      CHECK(parsed.value(option) == option_default(option));
    }
  }
}

TEST_CASE("environment: a limit of nothing turns it off with a notice", "[environment]") {
  for (const char* variable : {"MEMLIMIT=0", "MEMLIMIT=0MiB", "MEMLIMIT=-0"}) {
    INFO(variable);
    const Parsed parsed = parse({variable});
    CHECK(parsed.config.limit.kind == LimitKind::kOff);
    CHECK(parsed.source(Option::kLimit) == Source::kEnvironment);
    REQUIRE(parsed.errors.count == 1);
    CHECK(parsed.errors.error_count == 0);
    CHECK(parsed.errors.items[0].severity == ConfigError::Severity::kNotice);
    CHECK(parsed.line(0) ==
          std::string(variable) + " means no limit. Write off to say so without this line");
  }
}

TEST_CASE("environment: a small number without a unit is asked about", "[environment]") {
  const struct {
    const char* value;
    const char* said;
  } kAsked[] = {
      {"512", "is 512 bytes: did you mean 512MiB? Write 512B to mean bytes."},
      {"80", "is 80 bytes: did you mean 80% or 80MiB? Write 80B to mean bytes."},
      {"1", "is 1 byte: did you mean 1% or 1MiB? Write 1B to mean bytes."},
      {"524288", "is 524288 bytes: did you mean 524288KiB? Write 524288B to mean bytes."},
      {"1048575", "is 1048575 bytes: did you mean 1048575KiB? Write 1048575B to mean bytes."},
  };
  for (const auto& asked : kAsked) {
    const std::string variable = std::string("MEMLIMIT=") + asked.value;
    const std::string begin = std::string("MEMLIMIT=\"") + asked.value + "\" " + asked.said;
    const Parsed loose = parse({variable});
    CHECK(loose.errors.error_count == 0);
    REQUIRE(loose.errors.count == 1);
    CHECK(loose.errors.items[0].severity == ConfigError::Severity::kWarning);
    CHECK(loose.line(0) == begin + " Using " + loose.value(Option::kLimit));
    CHECK(loose.config.limit.bytes == std::stoll(asked.value));
    CHECK(loose.source(Option::kLimit) == Source::kEnvironment);
    const Parsed strict = parse({variable, "MEMLIMIT_STRICT=on"});
    CHECK(strict.errors.error_count == 1);
    CHECK(strict.line(0) == begin + " The program is not started");
  }
  // On purpose, and as Kubernetes' resourceFieldRef has it.
  for (const char* value : {"512B", "1B", "1048576", "536870912", "8388608"}) {
    INFO(value);
    CHECK(parse({std::string("MEMLIMIT=") + value, "MEMLIMIT_STRICT=on"}).errors.count == 0);
  }
}

TEST_CASE("environment: values are escaped and shortened in complaints", "[environment]") {
  CHECK(
      contains(complaint("MEMLIMIT=\x1b[31m\n\"\\\xff"), "\"\\x1b[31m\\x0a\\\"\\\\\\xff\" is not"));
  const std::string huge(100'000, 'x');
  const std::string line = complaint("MEMLIMIT=" + huge);
  CHECK(line.size() < ConfigError::kCap - 1);
  CHECK(contains(line, "\"... (100000 bytes) is not a size"));
  CHECK(contains(line, "Running without a limit"));
  // The worst case of every option: a complaint always ends in its consequence.
  for (const Option option : kAllOptions) {
    const std::string name = option_name(option);
    const std::string text = complaint(name + "=" + std::string(5000, '\x01'));
    INFO(text);
    CHECK(text.size() < ConfigError::kCap - 1);
    const std::string consequence = option == Option::kLimit
                                        ? "Running without a limit"
                                        : std::string("Using ") + option_default(option);
    CHECK(text.substr(text.size() - consequence.size()) == consequence);
  }
}

TEST_CASE("environment: names that are almost right are pointed out", "[environment]") {
  const Parsed parsed = parse({"MEMLIMIT_STRT=60%", "MEMLIMIT_FROBNICATE=1", "MEMLIMITS=1",
                               "XMEMLIMIT=1", "MEMLIMIT_=", "MEMLIMIT_LIBRARY"});
  REQUIRE(parsed.errors.count == 4);
  CHECK(parsed.errors.error_count == 0);
  CHECK(parsed.errors.items[0].severity == ConfigError::Severity::kWarning);
  CHECK(
      parsed.line(0) ==
      "MEMLIMIT_STRT is not a setting of memlimit: did you mean MEMLIMIT_START? It has no effect");
  CHECK(parsed.line(1) == "MEMLIMIT_FROBNICATE is not a setting of memlimit. It has no effect");
  CHECK(parsed.config.start_percent == 50);
}

TEST_CASE("environment: more bad names than there is room for do no harm", "[environment]") {
  std::vector<std::string> texts;
  for (int i = 0; i < 200; ++i) texts.push_back("MEMLIMIT_X" + std::to_string(i) + "=1");
  std::vector<const char*> envp;
  for (const std::string& text : texts) envp.push_back(text.c_str());
  envp.push_back("MEMLIMIT=512MiB");
  envp.push_back(nullptr);
  ConfigErrors errors;
  const Config config = parse_config(envp.data(), false, &errors);
  CHECK(errors.count == ConfigErrors::kMax - kOptionCount);
  CHECK(config.limit.bytes == 512 << 20);
}

TEST_CASE("environment: a quiet log level silences warnings and notices, not errors",
          "[environment]") {
  for (const char* log : {"MEMLIMIT_LOG=off", "MEMLIMIT_LOG=error"}) {
    const Parsed parsed = parse({"MEMLIMIT=0", "MEMLIMIT_STRT=1", "MEMLIMIT_START=200%", log});
    REQUIRE(parsed.errors.count == 1);
    CHECK(parsed.errors.error_count == 1);
    CHECK(contains(parsed.line(0), "MEMLIMIT_START"));
  }
}

TEST_CASE("environment: a setting without effect in this version says so", "[environment]") {
  for (const Option option : kAllOptions) {
    if (option_has_effect(option)) continue;
    INFO(option_name(option));
    const bool flag = option == Option::kPressure;
    const std::string value = flag                          ? "on"
                              : option == Option::kSignal   ? "USR1"
                              : option == Option::kAdapters ? "v8"
                                                            : "/x.so";
    const Parsed parsed = parse({std::string(option_name(option)) + "=" + value});
    REQUIRE(parsed.errors.count == 1);
    CHECK(parsed.errors.items[0].severity == ConfigError::Severity::kWarning);
    CHECK(parsed.line(0) ==
          std::string(option_name(option)) + " has no effect in this version of memlimit");
  }
}

TEST_CASE("environment: of a name that stands there twice the first counts", "[environment]") {
  CHECK(parse({"MEMLIMIT=1GiB", "MEMLIMIT=2GiB"}).value(Option::kLimit) == "1GiB");
  CHECK(parse({"MEMLIMIT=", "MEMLIMIT=2GiB"}).value(Option::kLimit) == "off");
}

TEST_CASE("environment: set-user-ID programs ignore what names a file", "[environment]") {
  const Parsed parsed =
      parse({"MEMLIMIT=512MiB", "MEMLIMIT_SOCKET=/tmp/x.sock", "MEMLIMIT_SOCKET_MODE=0666",
             "MEMLIMIT_PLUGINS=/tmp/evil.so", "MEMLIMIT_LOG=info:/etc/passwd"},
            true);
  CHECK(parsed.errors.count == 0);
  CHECK(parsed.source(Option::kLimit) == Source::kEnvironment);
  for (const Option option :
       {Option::kSocket, Option::kSocketMode, Option::kPlugins, Option::kLog}) {
    INFO(option_name(option));
    CHECK(parsed.source(option) == Source::kIgnored);
    CHECK(parsed.value(option) == option_default(option));
  }

  const Parsed harmless = parse({"MEMLIMIT_SOCKET=off", "MEMLIMIT_LOG=error"}, true);
  CHECK(harmless.value(Option::kSocket) == "off");
  CHECK(harmless.value(Option::kLog) == "error");
}

TEST_CASE("environment: set-user-ID programs do their work whatever is asked", "[environment]") {
  const Parsed checked = parse({"MEMLIMIT_STRICT=check"}, true);
  CHECK(checked.source(Option::kStrict) == Source::kIgnored);
  CHECK_FALSE(checked.config.check);
  CHECK_FALSE(checked.config.strict);
  CHECK(parse({"MEMLIMIT_STRICT=check"}).config.check);
}

TEST_CASE("environment: nothing points into the environment", "[environment]") {
  std::string socket = "MEMLIMIT_SOCKET=/run/a.sock", limit = "MEMLIMIT=512MB";
  const char* envp[] = {socket.c_str(), limit.c_str(), nullptr};
  ConfigErrors errors;
  const Config config = parse_config(envp, false, &errors);
  std::fill(socket.begin(), socket.end(), '#');
  std::fill(limit.begin(), limit.end(), '#');
  CHECK(std::string(config.socket.text) == "/run/a.sock");
  CHECK(std::string(config.state(Option::kLimit).raw) == "512MB");
  CHECK(contains(errors.items[0].text, "\"512MB\""));
}

TEST_CASE("environment: error lines carry the process and end in a newline even when cut",
          "[environment]") {
  char out[64];
  CHECK(memlimit::format_error_line(42, "hello", out, sizeof out) == 20);
  CHECK(std::string(out) == "memlimit[42]: hello\n");
  CHECK(memlimit::format_error_line(42, std::string(200, 'x').c_str(), out, sizeof out) == 63);
  CHECK(out[62] == '\n');
  CHECK(memlimit::format_error_line(42, "hello", out, 1) == 0);
  CHECK(memlimit::format_error_line(42, "hello", out, 0) == 0);
}
