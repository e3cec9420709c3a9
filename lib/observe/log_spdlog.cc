/* See log_backend.h. */
#include "observe/log_backend.h"

// Header-only use of both libraries: libmemlimit.so must not need libspdlog or libfmt, whose other copy
// the host program may carry. Without fmt's locale support 400 KiB of libstdc++'s locales and their
// static constructors stay out (measured; newer fmt spells it FMT_USE_LOCALE).
#define SPDLOG_HEADER_ONLY
#define SPDLOG_FMT_EXTERNAL
#define FMT_HEADER_ONLY
#define FMT_STATIC_THOUSANDS_SEPARATOR 44
#define FMT_USE_LOCALE 0
#include <spdlog/logger.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>

#include "observe/log.h"

namespace memlimit {

/**
 * spdlog's logger and the one sink it has. The logger is never put in spdlog's registry (which would
 * construct a default logger on standard output); its error handler is replaced, because its own takes a
 * mutex, a local time and stderr. Formatting is ours: the pattern formatter asks for the local time,
 * whose lock a fork may leave taken.
 */
struct LogBackend {
  class Sink final : public spdlog::sinks::sink {
   public:
    explicit Sink(Log* log) noexcept : log_(log) {}

    void log(const spdlog::details::log_msg& message) override {
      const auto since_epoch = message.time.time_since_epoch();
      log_->deliver(level_of(message.level),
                    std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch).count(),
                    message.payload.data(), message.payload.size());
    }
    void flush() override {}
    void set_pattern(const std::string&) override {}
    void set_formatter(std::unique_ptr<spdlog::formatter>) override {}

   private:
    static LogLevel level_of(spdlog::level::level_enum level) noexcept {
      switch (level) {
        case spdlog::level::critical:
        case spdlog::level::err:
          return LogLevel::kError;
        case spdlog::level::warn:
          return LogLevel::kWarn;
        case spdlog::level::info:
          return LogLevel::kInfo;
        default:
          return LogLevel::kDebug;
      }
    }

    Log* log_;
  };

  explicit LogBackend(Log* log) : logger(std::string(), std::make_shared<Sink>(log)) {
    // What is worth a line was decided by log_targets().
    logger.set_level(spdlog::level::trace);
    logger.set_error_handler([log](const std::string&) { log->lose(); });
  }

  spdlog::logger logger;
};

namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::kOff:
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kDebug:
      break;
  }
  return spdlog::level::debug;
}

}  // namespace

namespace log_backend {

LogBackend* open(Log* log) noexcept {
  try {
    return new LogBackend(log);
  } catch (...) {
    return nullptr;
  }
}

void close(LogBackend* backend) noexcept { delete backend; }

bool hand_over(LogBackend& backend, LogLevel level, const char* text) noexcept {
  try {
    backend.logger.log(to_spdlog(level), spdlog::string_view_t(text, std::strlen(text)));
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace log_backend
}  // namespace memlimit
