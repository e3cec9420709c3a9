/* Settings as text: every value, what each refuses and in which words, and the `config` file. */
#include "settings/config_values.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/settings.h"

using memlimit::Config;
using memlimit::kOptionCount;
using memlimit::LimitKind;
using memlimit::Option;
using memlimit::SocketKind;
using memlimit::Source;
using memlimit::test::complaint;
using memlimit::test::contains;
using memlimit::test::kAllOptions;
using memlimit::test::parse;
using memlimit::test::Parsed;

TEST_CASE("config_values: the defaults of options.inc are those of Config", "[config_values]") {
  const Parsed unset = parse({});
  for (const Option option : kAllOptions) {
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

TEST_CASE("config_values: every value in force reads back as itself", "[config_values]") {
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
      "MEMLIMIT_PROFILE=on",
      "MEMLIMIT_PROFILE=64KiB",
  };
  for (const std::string text : kValues) {
    INFO(text);
    const Parsed parsed = parse({text});
    CHECK(parsed.errors.error_count == 0);
    const size_t equals = text.find('=');
    for (const Option option : kAllOptions) {
      if (text.substr(0, equals) != option_name(option)) continue;
      CHECK(parsed.source(option) == Source::kEnvironment);
      CHECK(parsed.value(option) == text.substr(equals + 1));
    }
  }
}

TEST_CASE("config_values: other spellings mean the same value", "[config_values]") {
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
      {"MEMLIMIT_PROFILE=1", Option::kProfile, "on"},
      {"MEMLIMIT_PROFILE=524288", Option::kProfile, "on"},
      {"MEMLIMIT_PROFILE=no", Option::kProfile, "off"},
  };
  for (const Row& row : rows) {
    INFO(row.variable);
    const Parsed parsed = parse({row.variable});
    CHECK(parsed.errors.error_count == 0);
    CHECK(parsed.value(row.option) == row.value);
  }
}

TEST_CASE("config_values: the words for other bad values", "[config_values]") {
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
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=v8,"), "is not a list of adapters"));
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
  CHECK(contains(complaint("MEMLIMIT_PROFILE=512"), "is out of range: write on, off, or"));
  CHECK(contains(complaint("MEMLIMIT_PROFILE=512KB"), "did you mean 512KiB"));
  CHECK(contains(complaint("MEMLIMIT_PROFILE=ON"), "did you mean on?"));
}

TEST_CASE("config_values: socket paths are whole or refused, never cut", "[config_values]") {
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

TEST_CASE("config_values: log and plugin paths are whole or refused, never cut",
          "[config_values]") {
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

TEST_CASE("config_values: an adapter that there is not is refused, with the nearest one offered",
          "[config_values]") {
  CHECK(
      complaint("MEMLIMIT_ADAPTERS=python") ==
      "MEMLIMIT_ADAPTERS=\"python\" names an unknown runtime, python: did you mean cpython? Using "
      "auto");
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=v8,python3"), "did you mean cpython?"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=CPython"), "did you mean cpython?"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=v8, sqlite"), "did you mean sqlite?"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=node"), "did you mean v8?"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=php-fpm8.2"), "did you mean php?"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=sqlite3"), "did you mean sqlite?"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=java"), "did you mean jvm?"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=elixir"), "did you mean beam?"));
  CHECK(
      contains(complaint("MEMLIMIT_ADAPTERS=mono"),
               "known are cpython, cpython-threads, ruby, v8, sqlite, jvm, php, beam. Using auto"));
  CHECK(contains(complaint("MEMLIMIT_ADAPTERS=off"), "did you mean none?"));
  const std::string sentence = option_sentence(Option::kAdapters);
  for (const std::string_view name : memlimit::kAdapterNames) {
    INFO(name);
    CHECK(parse({"MEMLIMIT_ADAPTERS=" + std::string(name)}).errors.count == 0);
    CHECK(contains(sentence, std::string(name)));
  }
}

TEST_CASE("config_values: relative paths are taken from the directory at start",
          "[config_values]") {
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

TEST_CASE("config_values: the config file has a line an option, in columns", "[config_values]") {
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

TEST_CASE("config_values: a long raw value is cut in the config file, with a mark",
          "[config_values]") {
  const Parsed parsed = parse({"MEMLIMIT=" + std::string(500, 'z')});
  char out[8192];
  render_config(parsed.config, out, sizeof out);
  CHECK(contains(out, " " + std::string(63, 'z') + "...\n"));
}

TEST_CASE("config_values: a limit can be read without an environment", "[config_values]") {
  memlimit::LimitSetting limit;
  char why[256];
  CHECK(memlimit::parse_limit("300MiB", &limit, why, sizeof why));
  CHECK(limit.bytes == 300 << 20);
  CHECK_FALSE(memlimit::parse_limit("300MB", &limit, why, sizeof why));
  CHECK(std::string(why) == "is not a size: did you mean 300MiB or 286MiB?");
  CHECK_FALSE(memlimit::parse_limit("", &limit, why, sizeof why));
  CHECK(limit.bytes == 300 << 20);
  CHECK_FALSE(memlimit::parse_limit("512", &limit, why, sizeof why));
  CHECK(std::string(why) == "is 512 bytes: did you mean 512MiB? Write 512B to mean bytes.");
  CHECK(limit.bytes == 300 << 20);
  CHECK(memlimit::parse_limit("512B", &limit, why, sizeof why));
  CHECK(limit.bytes == 512);
  CHECK(memlimit::parse_limit("0", &limit, why, sizeof why));
  CHECK(limit.kind == LimitKind::kOff);
}
