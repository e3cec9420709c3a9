/* The settings in force: a plain struct that is filled once, at start, and never changes.
 *
 * Answers for: what each setting can be, its default, and where the value came from. Refuses to parse
 * (config_values.h), to look at the environment (environment.h) and to resolve a percentage (container_share.h).
 * Nothing in a Config points anywhere, and nothing here allocates. Threads: written before there are any, then
 * read by all.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "settings/options.h"

namespace memlimit {

/** Where an option's value came from. */
enum class Source : uint8_t {
  kDefault,     /* not set, or set to nothing */
  kEnvironment, /* set, and in force */
  kInvalid,     /* set to something that is wrong: the default is in force */
  kIgnored,     /* names a file in a set-user-ID program: the default is in force */
};

enum class LimitKind : uint8_t { kOff, kBytes, kPercent, kAuto };

/** MEMLIMIT as written; percentages are resolved, and followed, by whoever knows the container. */
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

/** In that order; each ends in a NUL. */
inline constexpr std::string_view kLogLevelNames[] = {"off", "error", "warn", "info", "debug"};

struct LogSetting {
  static constexpr size_t kCap = 1024;
  LogLevel level = LogLevel::kWarn;
  char path[kCap] = {}; /* absolute; empty: no file, and everything goes to standard error */
};

/** What MEMLIMIT_ADAPTERS may name: each runtime, and a way of using one that has to be asked for. */
inline constexpr std::string_view kAdapterNames[] = {
    "cpython", "cpython-threads", "ruby", "v8", "sqlite", "jvm", "php", "beam"};

/** MEMLIMIT_PROFILE=on: as in Go and TCMalloc. */
inline constexpr int64_t kDefaultProfileBytes = int64_t{512} << 10;

enum class AdapterKind : uint8_t { kAuto, kNone, kList };

struct AdapterSetting {
  static constexpr size_t kCap = 256;
  AdapterKind kind = AdapterKind::kAuto;
  char names[kCap] = {}; /* kList: of kAdapterNames, with commas between */
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
  int64_t profile_interval_bytes = 0; /* mean distance of the heap profile's samples; 0: off */
  OptionState states[kOptionCount];

  const OptionState& state(Option option) const noexcept {
    return states[static_cast<int>(option)];
  }

  /** Settings that were refused: Source::kInvalid. */
  int invalid_count() const noexcept;
};

/** "default", "environment", "invalid", "ignored". */
const char* source_name(Source source) noexcept;

/** "off", "error", "warn", "info", "debug". */
const char* log_level_name(LogLevel level) noexcept;

/** Whether MEMLIMIT_ADAPTERS lets an adapter of that name attach. */
bool adapter_wanted(const Config& config, std::string_view name) noexcept;

}  // namespace memlimit
