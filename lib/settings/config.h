/* The environment, read once at start into a plain struct that never changes.
 *
 * Answers for: every MEMLIMIT* variable, its default, what is wrong with a bad value and what would
 * be right, and the text of the socket's `config` file. Refuses to act: it opens nothing, prints
 * nothing and resolves no percentage. Nothing in a Config points into the environment, and nothing
 * here allocates. Threads: parse_config() runs once, before there are threads; a Config is then
 * read by all of them.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace memlimit {

/** One value for each row of options.inc, in its order. */
enum class Option : int {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) id,
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
};

inline constexpr int kOptionCount = [] {
  int count = 0;
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) ++count;
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
  return count;
}();

/** Where an option's value came from. */
enum class Source : uint8_t {
  kDefault,     /* not set, or set to nothing */
  kEnvironment, /* set, and in force */
  kInvalid,     /* set to something that is wrong: the default is in force */
  kIgnored,     /* names a file in a set-user-ID program: the default is in force */
};

enum class LimitKind : uint8_t { kOff, kBytes, kPercent, kAuto };

/** MEMLIMIT as written; percentages are resolved by whoever knows the container (auto is 90 %, and
 * followed). */
struct LimitSetting {
  LimitKind kind = LimitKind::kOff;
  int64_t bytes = 0; /* kBytes: at least 1 */
  int percent = 0;   /* kPercent: 1..100; kAuto: 90 */
};

/** Which number is paced: see section "account" of the README. */
enum class AccountMode : uint8_t { kAuto, kHeap, kRss, kCgroup };

enum class SocketKind : uint8_t {
  kDefault, /* the usual places, in their order */
  kOff,     /* no socket */
  kPath, /* `text` is the socket's path, or a directory that exists (only who binds it can tell) */
  kDirectory, /* `text` ends in '/': the socket is <text><pid>.sock */
};

struct SocketSetting {
  static constexpr size_t kCap = 256; /* longer than sun_path: %p and %h grow and shrink */
  SocketKind kind = SocketKind::kDefault;
  char text[kCap] = {}; /* absolute; %p, %h and %% not yet expanded; NUL-terminated */
};

enum class LogLevel : uint8_t { kOff, kError, kWarn, kInfo, kDebug };

struct LogSetting {
  static constexpr size_t kCap = 1024;
  LogLevel level = LogLevel::kWarn;
  bool asked = false; /* MEMLIMIT_LOG was set: without a path, everything goes to standard error */
  char path[kCap] = {}; /* absolute; empty: no file */
};

enum class AdapterKind : uint8_t { kAuto, kNone, kList };

struct AdapterSetting {
  static constexpr size_t kCap = 256;
  AdapterKind kind = AdapterKind::kAuto;
  char names[kCap] = {}; /* kList: lower-case names between commas, no spaces */
};

/** What was written, for the `config` file; longer text is cut there, never in the value that is
 * used. */
struct OptionState {
  static constexpr size_t kRawCap = 64;
  Source source = Source::kDefault;
  bool raw_truncated = false;
  char raw[kRawCap] = {};
};

struct Config {
  static constexpr size_t kPluginsCap = 4096;

  LimitSetting limit;
  int start_percent = 50; /* 1..99, percent of the limit */
  int growth_percent = 0; /* 0: off */
  AccountMode account = AccountMode::kAuto;
  SocketSetting socket;
  unsigned socket_mode = 0600; /* permission bits of the socket's file */
  AdapterSetting adapters;
  char plugins[kPluginsCap] = {}; /* paths between colons, none empty */
  int signal_number = 0;          /* 0: none */
  LogSetting log;
  int64_t report_seconds = 0; /* 0: off */
  bool pressure = false;
  bool strict = false;
  bool check = false; /* settings are only looked at: the program does not run */
  int64_t assist_ns =
      2'000'000; /* longest wait of an allocating thread near the limit; 0: never waits */
  OptionState states[kOptionCount];

  const OptionState& state(Option option) const noexcept {
    return states[static_cast<int>(option)];
  }

  /** Settings that were refused: Source::kInvalid. */
  int invalid_count() const noexcept;
};

/** One line for standard error, without the "memlimit[PID]: " in front and without a newline. */
struct ConfigError {
  enum class Severity : uint8_t {
    kError,   /* a bad value: MEMLIMIT_STRICT=1 refuses to start */
    kWarning, /* an unknown name, or a setting without effect in this version */
    kNotice,  /* MEMLIMIT=0 */
  };
  static constexpr size_t kCap = 400;
  Severity severity = Severity::kError;
  char text[kCap] = {};
};

/** What parse_config() found wrong, in the order of options.inc, unknown names last. */
struct ConfigErrors {
  static constexpr int kMax = kOptionCount + 8;
  int count = 0;
  int error_count = 0; /* how many of them are Severity::kError */
  ConfigError items[kMax];
};

/**
 * Reads the environment (as in `environ`; null is empty). Of a name that stands there twice the
 * first counts, as for getenv. `secure`: AT_SECURE is set, so settings that name a file are
 * ignored. `errors` is overwritten; MEMLIMIT_LOG=off or =error leaves warnings and notices out of
 * it. Asks the kernel for the working directory when a path is relative; otherwise no system call.
 * Threads: any. Context: before constructors, too. Allocates: no. Never fails: bad values become
 * defaults.
 */
Config parse_config(const char* const* envp, bool secure, ConfigErrors* errors) noexcept;

/** MEMLIMIT's value (also what the socket's `limit=` takes), without an environment around it.
 *  On failure returns false, leaves `out` alone and puts what is wrong, and what would be right, in
 * `why`. */
bool parse_limit(std::string_view text, LimitSetting* out, char* why, size_t why_cap) noexcept;

/** Bytes of "memlimit[PID]: TEXT\n", made in `out`; a text that is too long is cut, the newline
 * never. */
size_t format_error_line(int pid, const char* text, char* out, size_t cap) noexcept;

/**
 * The socket's `config` file: a line an option, four columns with spaces between: name, value in
 * force, source (default, environment, invalid, ignored), and for the last two what was written,
 * else "-". Blanks, backslashes and bytes outside printable ASCII inside a column are written \ooo,
 * as in /proc/mounts. An option without effect in this version has "no-effect-in-this-version" as
 * fifth column. Returns the bytes written without the NUL; 4 KiB hold everything but long paths.
 */
size_t render_config(const Config& config, char* out, size_t cap) noexcept;

/** The value in force of one option, as it could be written in the environment. Returns its length.
 */
size_t render_option(const Config& config, Option option, char* out, size_t cap) noexcept;

/** "MEMLIMIT_START"; its default as text; its sentence; whether it does something in this version.
 */
const char* option_name(Option option) noexcept;
const char* option_default(Option option) noexcept;
const char* option_sentence(Option option) noexcept;
bool option_has_effect(Option option) noexcept;

/** "default", "environment", "invalid", "ignored". */
const char* source_name(Source source) noexcept;

/** "off", "error", "warn", "info", "debug". */
const char* log_level_name(LogLevel level) noexcept;

/** Whether MEMLIMIT_ADAPTERS lets an adapter of that name attach. */
bool adapter_wanted(const Config& config, std::string_view name) noexcept;

}  // namespace memlimit
