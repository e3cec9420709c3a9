/* Settings: every variable, what each refuses and in which words, and the `config` file. */
#include "settings/environment.h"

#include <csignal>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include <unistd.h>

#include <catch2/catch.hpp>

#include "settings/config_values.h"

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

namespace {

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

Parsed parse(std::initializer_list<std::string> variables, bool secure = false) {
  std::vector<const char*> envp;
  for (const std::string& variable : variables) envp.push_back(variable.c_str());
  envp.push_back(nullptr);
  Parsed parsed;
  parsed.config = parse_config(envp.data(), secure, &parsed.errors);
  return parsed;
}

/** The one line that a bad value earns. */
std::string complaint(const std::string& variable) {
  const Parsed parsed = parse({variable});
  INFO(variable);
  REQUIRE(parsed.errors.count == 1);
  REQUIRE(parsed.errors.error_count == 1);
  CHECK(parsed.errors.items[0].severity == ConfigError::Severity::kError);
  return parsed.line(0);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

constexpr Option kAll[] = {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) Option::id,
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
};

}  // namespace

TEST_CASE("config: an empty environment gives the defaults in silence", "[config]") {
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
    CHECK_FALSE(config.log.asked);
    CHECK(config.assist_ns == 2'000'000);
  }
}

TEST_CASE("config: the defaults of options.inc are those of Config", "[config]") {
  const Parsed unset = parse({});
  for (const Option option : kAll) {
    INFO(option_name(option));
    CHECK(unset.value(option) == option_default(option));
    CHECK(unset.source(option) == Source::kDefault);
    const Parsed set = parse({std::string(option_name(option)) + "=" + option_default(option)});
    CHECK(set.errors.count == 0);
    CHECK(set.source(option) == Source::kEnvironment);
    CHECK(set.value(option) == option_default(option));
    CHECK(std::strlen(memlimit::option_sentence(option)) > 10);
  }
}

TEST_CASE("config: an empty value is as good as none, in silence", "[config]") {
  for (const Option option : kAll) {
    INFO(option_name(option));
    const Parsed parsed = parse({std::string(option_name(option)) + "="});
    CHECK(parsed.errors.count == 0);
    CHECK(parsed.source(option) == Source::kDefault);
    CHECK(parsed.value(option) == option_default(option));
  }
}

TEST_CASE("config: every value in force reads back as itself", "[config]") {
  const char* const kValues[] = {
      "MEMLIMIT=512MiB",
      "MEMLIMIT=1025KiB",
      "MEMLIMIT=80%",
      "MEMLIMIT=auto",
      "MEMLIMIT_START=1%",
      "MEMLIMIT_START=99%",
      "MEMLIMIT_GROWTH=100%",
      "MEMLIMIT_GROWTH=10000%",
      "MEMLIMIT_ACCOUNT=heap",
      "MEMLIMIT_ACCOUNT=rss",
      "MEMLIMIT_ACCOUNT=cgroup",
      "MEMLIMIT_SOCKET=off",
      "MEMLIMIT_SOCKET=/run/app/%h-%p.sock",
      "MEMLIMIT_SOCKET=/run/app/",
      "MEMLIMIT_SOCKET=/a%%b",
      "MEMLIMIT_SOCKET_MODE=0666",
      "MEMLIMIT_ADAPTERS=none",
      "MEMLIMIT_ADAPTERS=cpython,v8",
      "MEMLIMIT_PLUGINS=/a/b.so:./c.so",
      "MEMLIMIT_SIGNAL=SIGUSR1",
      "MEMLIMIT_SIGNAL=SIGRTMIN+3",
      "MEMLIMIT_LOG=off",
      "MEMLIMIT_LOG=debug:/var/log/a:b",
      "MEMLIMIT_REPORT=60",
      "MEMLIMIT_PRESSURE=on",
      "MEMLIMIT_STRICT=on",
      "MEMLIMIT_ASSIST=off",
      "MEMLIMIT_ASSIST=500us",
      "MEMLIMIT_ASSIST=1000ms",
  };
  for (const std::string text : kValues) {
    INFO(text);
    const Parsed parsed = parse({text});
    CHECK(parsed.errors.error_count == 0);
    const size_t equals = text.find('=');
    for (const Option option : kAll) {
      if (text.substr(0, equals) != option_name(option)) continue;
      CHECK(parsed.source(option) == Source::kEnvironment);
      CHECK(parsed.value(option) == text.substr(equals + 1));
    }
  }
}

TEST_CASE("config: other spellings mean the same value", "[config]") {
  struct Row {
    const char* variable;
    Option option;
    const char* value;
  };
  const Row rows[] = {
      {"MEMLIMIT=536870912", Option::kLimit, "512MiB"},
      {"MEMLIMIT=100%", Option::kLimit, "100%"},
      {"MEMLIMIT_START=75", Option::kStart, "75%"},
      {"MEMLIMIT_GROWTH=100", Option::kGrowth, "100%"},
      {"MEMLIMIT_GROWTH=0", Option::kGrowth, "off"},
      {"MEMLIMIT_SOCKET_MODE=660", Option::kSocketMode, "0660"},
      {"MEMLIMIT_SIGNAL=USR2", Option::kSignal, "SIGUSR2"},
      {"MEMLIMIT_SIGNAL=1", Option::kSignal, "SIGHUP"},
      {"MEMLIMIT_SIGNAL=off", Option::kSignal, "none"},
      {"MEMLIMIT_SIGNAL=RTMIN", Option::kSignal, "SIGRTMIN"},
      {"MEMLIMIT_REPORT=10s", Option::kReport, "10"},
      {"MEMLIMIT_REPORT=0", Option::kReport, "off"},
      {"MEMLIMIT_PRESSURE=1", Option::kPressure, "on"},
      {"MEMLIMIT_STRICT=yes", Option::kStrict, "on"},
      {"MEMLIMIT_STRICT=0", Option::kStrict, "off"},
      {"MEMLIMIT_STRICT=check", Option::kStrict, "check"},
      {"MEMLIMIT_ASSIST=0", Option::kAssist, "off"},
      {"MEMLIMIT_ASSIST=3", Option::kAssist, "3ms"},
      {"MEMLIMIT_ASSIST=2000us", Option::kAssist, "2ms"},
  };
  for (const Row& row : rows) {
    INFO(row.variable);
    const Parsed parsed = parse({row.variable});
    CHECK(parsed.errors.error_count == 0);
    CHECK(parsed.value(row.option) == row.value);
  }
}

TEST_CASE("config: a bad limit is named, explained and has its consequence told", "[config]") {
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

TEST_CASE("config: under MEMLIMIT_STRICT the consequence is that nothing starts", "[config]") {
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

TEST_CASE("config: a bad value leaves the option unset and says so in its source", "[config]") {
  const Parsed parsed = parse({"MEMLIMIT=512MB", "MEMLIMIT_START=60%"});
  CHECK(parsed.config.limit.kind == LimitKind::kOff);
  CHECK(parsed.source(Option::kLimit) == Source::kInvalid);
  CHECK(std::string(parsed.config.state(Option::kLimit).raw) == "512MB");
  CHECK(parsed.source(Option::kStart) == Source::kEnvironment);
  CHECK(parsed.config.start_percent == 60);
}

TEST_CASE("config: every option refuses nonsense with one line and keeps its default", "[config]") {
  for (const Option option : kAll) {
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

TEST_CASE("config: the words for other bad values", "[config]") {
  CHECK(complaint("MEMLIMIT_START=100%") ==
        "MEMLIMIT_START=\"100%\" is out of range: write 1% to 99% of the limit. Using 50%");
  CHECK(contains(complaint("MEMLIMIT_START=256MiB"), "is not a percentage: write 1% to 99%"));
  CHECK(contains(complaint("MEMLIMIT_START=0.5"), "did you mean 50%?"));
  CHECK(contains(complaint("MEMLIMIT_START=0"), "is out of range"));
  CHECK(contains(complaint("MEMLIMIT_GROWTH=10001"), "is out of range"));
  CHECK(contains(complaint("MEMLIMIT_GROWTH=-5%"), "is not a percentage"));
  CHECK(complaint("MEMLIMIT_ACCOUNT=RSS") ==
        "MEMLIMIT_ACCOUNT=\"RSS\" is not a way of counting: did you mean rss? Using auto");
  CHECK(contains(complaint("MEMLIMIT_SOCKET=on"), "is not a path: write a path (/run/app.sock)"));
  CHECK(contains(complaint("MEMLIMIT_SOCKET=/run/%x"), "after % only p (process id), h"));
  CHECK(contains(complaint("MEMLIMIT_SOCKET=/run/%"), "after % only p"));
  CHECK(contains(complaint("MEMLIMIT_SOCKET_MODE=0888"), "is not a file mode"));
  CHECK(contains(complaint("MEMLIMIT_SOCKET_MODE=01777"), "is not a file mode"));
  CHECK(contains(complaint("MEMLIMIT_SOCKET_MODE=0440"), "the owner must be able to read and"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=v8,,sqlite"), "is not a list of adapters"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=v8,"), "it ends in a comma"));
  CHECK(contains(complaint("MEMLIMIT_PLUGINS=libfoo.so"), "each with a /"));
  CHECK(contains(complaint("MEMLIMIT_PLUGINS=/a.so::/b.so"), "each with a /"));
  CHECK(contains(complaint("MEMLIMIT_SIGNAL=KILL"), "no program can handle"));
  CHECK(contains(complaint("MEMLIMIT_SIGNAL=11"), "reports a fault"));
  CHECK(contains(complaint("MEMLIMIT_SIGNAL=33"), "the C library keeps for itself"));
  CHECK(contains(complaint("MEMLIMIT_SIGNAL=sigusr1"), "did you mean SIGUSR1?"));
  CHECK(contains(complaint("MEMLIMIT_SIGNAL=RTMIN+99"), "is not a signal"));
  CHECK(contains(complaint("MEMLIMIT_LOG=warning"), "did you mean warn?"));
  CHECK(contains(complaint("MEMLIMIT_LOG=/tmp/x"), "a path without a level"));
  CHECK(contains(complaint("MEMLIMIT_LOG=info:"), "without a path after the colon"));
  CHECK(contains(complaint("MEMLIMIT_REPORT=1h"), "is not a number of seconds"));
  CHECK(contains(complaint("MEMLIMIT_REPORT=86401"), "is too long"));
  CHECK(contains(complaint("MEMLIMIT_STRICT=maybe"),
                 "is none of on, off and check: write on, off or check."));
  CHECK(contains(complaint("MEMLIMIT_ASSIST=2s"), "is not a duration"));
  CHECK(contains(complaint("MEMLIMIT_ASSIST=1001"), "is too long"));
}

TEST_CASE("config: a limit of nothing turns it off with a notice", "[config]") {
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

TEST_CASE("config: values are escaped and shortened in complaints", "[config]") {
  CHECK(
      contains(complaint("MEMLIMIT=\x1b[31m\n\"\\\xff"), "\"\\x1b[31m\\x0a\\\"\\\\\\xff\" is not"));
  const std::string huge(100'000, 'x');
  const std::string line = complaint("MEMLIMIT=" + huge);
  CHECK(line.size() < ConfigError::kCap - 1);
  CHECK(contains(line, "\"... (100000 bytes) is not a size"));
  CHECK(contains(line, "Running without a limit"));
  // The worst case of every option: a complaint always ends in its consequence.
  for (const Option option : kAll) {
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

TEST_CASE("config: names that are almost right are pointed out", "[config]") {
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

TEST_CASE("config: more bad names than there is room for do no harm", "[config]") {
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

TEST_CASE("config: a quiet log level silences warnings and notices, not errors", "[config]") {
  for (const char* log : {"MEMLIMIT_LOG=off", "MEMLIMIT_LOG=error"}) {
    const Parsed parsed = parse({"MEMLIMIT=0", "MEMLIMIT_STRT=1", "MEMLIMIT_START=200%", log});
    REQUIRE(parsed.errors.count == 1);
    CHECK(parsed.errors.error_count == 1);
    CHECK(contains(parsed.line(0), "MEMLIMIT_START"));
  }
}

TEST_CASE("config: a setting without effect in this version says so", "[config]") {
  for (const Option option : kAll) {
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

TEST_CASE("config: of a name that stands there twice the first counts", "[config]") {
  CHECK(parse({"MEMLIMIT=1GiB", "MEMLIMIT=2GiB"}).value(Option::kLimit) == "1GiB");
  CHECK(parse({"MEMLIMIT=", "MEMLIMIT=2GiB"}).value(Option::kLimit) == "off");
}

TEST_CASE("config: set-user-ID programs ignore what names a file", "[config]") {
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
  CHECK_FALSE(parsed.config.log.asked);

  const Parsed harmless = parse({"MEMLIMIT_SOCKET=off", "MEMLIMIT_LOG=error"}, true);
  CHECK(harmless.value(Option::kSocket) == "off");
  CHECK(harmless.value(Option::kLog) == "error");
}

TEST_CASE("config: set-user-ID programs do their work whatever is asked", "[config]") {
  const Parsed checked = parse({"MEMLIMIT_STRICT=check"}, true);
  CHECK(checked.source(Option::kStrict) == Source::kIgnored);
  CHECK_FALSE(checked.config.check);
  CHECK_FALSE(checked.config.strict);
  CHECK(parse({"MEMLIMIT_STRICT=check"}).config.check);
}

TEST_CASE("config: socket paths are whole or refused, never cut", "[config]") {
  const std::string limit(107, 'x');
  CHECK(parse({std::string("MEMLIMIT_SOCKET=/") + limit.substr(1)}).errors.count == 0);
  CHECK(contains(
      complaint(std::string("MEMLIMIT_SOCKET=/") + limit),
      "is too long for a socket: the whole path may have 107 bytes, this one can reach 108."));
  // A process id can have seven digits, so %p counts as seven.
  CHECK(parse({std::string("MEMLIMIT_SOCKET=/") + std::string(99, 'x') + "%p"}).errors.count == 0);
  CHECK(contains(complaint(std::string("MEMLIMIT_SOCKET=/") + std::string(100, 'x') + "%p"),
                 "can reach 108"));
  // In a directory, the name "<pid>.sock" comes on top.
  CHECK(parse({std::string("MEMLIMIT_SOCKET=/") + std::string(93, 'x') + "/"}).config.socket.kind ==
        SocketKind::kDirectory);
  CHECK(contains(complaint(std::string("MEMLIMIT_SOCKET=/") + std::string(94, 'x') + "/"),
                 "can reach 108"));
  CHECK(contains(complaint(std::string("MEMLIMIT_SOCKET=/") + std::string(5000, 'x')), "too long"));
  CHECK(parse({"MEMLIMIT_SOCKET=/run/a.sock"}).config.socket.kind == SocketKind::kPath);
}

TEST_CASE("config: log and plugin paths are whole or refused, never cut", "[config]") {
  CHECK(parse({std::string("MEMLIMIT_LOG=info:/") + std::string(1022, 'x')}).errors.count == 0);
  CHECK(contains(complaint(std::string("MEMLIMIT_LOG=info:/") + std::string(1023, 'x')),
                 "may have 1023 bytes"));
  CHECK(parse({std::string("MEMLIMIT_PLUGINS=/") + std::string(4094, 'x')}).errors.error_count ==
        0);
  CHECK(contains(complaint(std::string("MEMLIMIT_PLUGINS=/") + std::string(4095, 'x')),
                 "may have 4095 bytes"));
  CHECK(contains(complaint(std::string("MEMLIMIT_ADAPTERS=") + std::string(256, 'x')),
                 "may have 255 bytes"));
}

TEST_CASE("config: relative paths are taken from the directory at start", "[config]") {
  char before[4096];
  REQUIRE(getcwd(before, sizeof before) != nullptr);
  char place[] = "/tmp/memlimit%p-XXXXXX";
  REQUIRE(mkdtemp(place) != nullptr);
  REQUIRE(chdir(place) == 0);
  const Parsed parsed = parse({"MEMLIMIT_SOCKET=./a%p.sock", "MEMLIMIT_LOG=info:a.log"});
  REQUIRE(chdir("/") == 0);
  const Parsed at_root = parse({"MEMLIMIT_SOCKET=a.sock", "MEMLIMIT_LOG=info:a.log"});
  REQUIRE(chdir(before) == 0);
  REQUIRE(rmdir(place) == 0);

  const std::string given = place;
  const size_t percent = given.find('%');
  const std::string escaped = given.substr(0, percent) + '%' + given.substr(percent);
  CHECK(parsed.errors.count == 0);
  CHECK(parsed.config.socket.text == escaped + "/a%p.sock");
  CHECK(parsed.config.log.path == given + "/a.log");
  CHECK(at_root.config.socket.text == std::string("/a.sock"));
  CHECK(at_root.config.log.path == std::string("/a.log"));
}

TEST_CASE("config: nothing points into the environment", "[config]") {
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

TEST_CASE("config: the config file has a line an option, in columns", "[config]") {
  const Parsed parsed = parse({"MEMLIMIT=512MiB", "MEMLIMIT_START=5 0", "MEMLIMIT_REPORT=60",
                               "MEMLIMIT_SOCKET=/run/my app.sock"});
  char out[8192];
  const size_t length = render_config(parsed.config, out, sizeof out);
  const std::string text(out);
  CHECK(text.size() == length);
  CHECK(contains(text, "MEMLIMIT              512MiB           environment  -\n"));
  CHECK(contains(text, "MEMLIMIT_START        50%              invalid      5\\0400\n"));
  CHECK(contains(text, "MEMLIMIT_SOCKET       /run/my\\040app.sock environment  -\n"));
  CHECK(contains(text, "MEMLIMIT_PLUGINS      none             default      -\n"));
  CHECK(parsed.config.invalid_count() == 1);
  CHECK(std::count(text.begin(), text.end(), '\n') == kOptionCount);
  char small[100];
  CHECK(render_config(parsed.config, small, sizeof small) == sizeof small - 1);
}

TEST_CASE("config: a long raw value is cut in the config file, with a mark", "[config]") {
  const Parsed parsed = parse({"MEMLIMIT=" + std::string(500, 'z')});
  char out[8192];
  render_config(parsed.config, out, sizeof out);
  CHECK(contains(out, " " + std::string(63, 'z') + "...\n"));
}

TEST_CASE("config: a limit can be read without an environment", "[config]") {
  memlimit::LimitSetting limit;
  char why[256];
  CHECK(memlimit::parse_limit("300MiB", &limit, why, sizeof why));
  CHECK(limit.bytes == 300 << 20);
  CHECK_FALSE(memlimit::parse_limit("300MB", &limit, why, sizeof why));
  CHECK(std::string(why) == "is not a size: did you mean 300MiB or 286MiB?");
  CHECK_FALSE(memlimit::parse_limit("", &limit, why, sizeof why));
  CHECK(limit.bytes == 300 << 20);
  CHECK(memlimit::parse_limit("0", &limit, why, sizeof why));
  CHECK(limit.kind == LimitKind::kOff);
}

TEST_CASE("config: error lines carry the process and end in a newline even when cut", "[config]") {
  char out[64];
  CHECK(memlimit::format_error_line(42, "hello", out, sizeof out) == 20);
  CHECK(std::string(out) == "memlimit[42]: hello\n");
  CHECK(memlimit::format_error_line(42, std::string(200, 'x').c_str(), out, sizeof out) == 63);
  CHECK(out[62] == '\n');
  CHECK(memlimit::format_error_line(42, "hello", out, 1) == 0);
  CHECK(memlimit::format_error_line(42, "hello", out, 0) == 0);
}

TEST_CASE("config: adapters are wanted by name", "[config]") {
  CHECK(adapter_wanted(parse({}).config, "v8"));
  CHECK_FALSE(adapter_wanted(parse({"MEMLIMIT_ADAPTERS=none"}).config, "v8"));
  const Parsed list = parse({"MEMLIMIT_ADAPTERS=cpython,v8"});
  CHECK(adapter_wanted(list.config, "v8"));
  CHECK(adapter_wanted(list.config, "cpython"));
  CHECK_FALSE(adapter_wanted(list.config, "v"));
  CHECK_FALSE(adapter_wanted(list.config, "sqlite"));
}
