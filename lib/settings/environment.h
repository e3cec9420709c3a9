/* The environment, read once at start into a Config.
 *
 * Answers for: every MEMLIMIT* variable, the one line that a bad value or an unknown name earns, and what
 * follows from it. Refuses to act: it opens nothing and prints nothing. The lines and the Config are copies:
 * nothing in them points into the environment, and nothing here allocates.
 * Threads: parse_config() runs once, before there are threads; the rest is pure.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "settings/config.h"

namespace memlimit {

/** One line for standard error, without the "memlimit[PID]: " in front and without a newline. */
struct ConfigError {
  enum class Severity : uint8_t {
    kError, /* a bad value: MEMLIMIT_STRICT=1 refuses to start */
    kWarning, /* an unknown name, a setting without effect in this version, or a value that was hardly meant */
    kNotice, /* MEMLIMIT=0 */
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

/** Bytes of "memlimit[PID]: TEXT\n", made in `out`; a text that is too long is cut, the newline
 * never. */
size_t format_error_line(int pid, const char* text, char* out, size_t cap) noexcept;

}  // namespace memlimit
