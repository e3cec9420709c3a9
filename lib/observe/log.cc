#include "observe/log.h"

// Header-only use of both libraries: libmemlimit.so must not need libspdlog or libfmt, whose other copy
// the host program may carry. Without fmt's locale support 400 KiB of libstdc++'s locales and their
// static constructors stay out (measured; newer fmt spells it FMT_USE_LOCALE).
#define SPDLOG_HEADER_ONLY
#define SPDLOG_FMT_EXTERNAL
#define FMT_HEADER_ONLY
#define FMT_STATIC_THOUSANDS_SEPARATOR 44
#define FMT_USE_LOCALE 0
#include <spdlog/logger.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "observe/event_words.h"
#include "settings/environment.h"
#include "system/attributes.h"
#include "system/os.h"
#include "system/safe_write.h"
#include "system/text.h"

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

// A line must fit into what a pipe takes in one piece (4096), or lines of several processes mix.
constexpr size_t kTextCap = 2048;
constexpr size_t kLineCap = kTextCap + 128;
constexpr int kStartWaitMs = 100;

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

/** "2026-11-23T15:04:05.123456Z": UTC by arithmetic, with no time zone to load and no lock. */
void put_utc(TextWriter& out, int64_t unix_ns) noexcept {
  namespace chrono = std::chrono;
  const chrono::sys_time<chrono::microseconds> time(chrono::microseconds(unix_ns / 1000));
  const auto day = chrono::floor<chrono::days>(time);
  const chrono::year_month_day date(day);
  const chrono::hh_mm_ss clock(time - day);
  out.put_int(static_cast<int>(date.year()), 4).put('-');
  out.put_int(static_cast<unsigned>(date.month()), 2).put('-');
  out.put_int(static_cast<unsigned>(date.day()), 2).put('T');
  out.put_int(clock.hours().count(), 2).put(':');
  out.put_int(clock.minutes().count(), 2).put(':');
  out.put_int(clock.seconds().count(), 2).put('.');
  out.put_int(clock.subseconds().count(), 6).put('Z');
}

/** Control bytes become '?': a path or a hook's name cannot make a second line or colour a terminal. */
void put_text(TextWriter& out, std::string_view text) noexcept {
  for (const char c : text.substr(0, kTextCap)) {
    const auto byte = static_cast<unsigned char>(c);
    out.put(byte < 0x20 || byte == 0x7f ? '?' : c);
  }
  if (text.size() > kTextCap) out.put("...");
}

void put_prefix(TextWriter& out, int pid) noexcept { out.put("memlimit[").put_int(pid).put(']'); }

constinit Log g_log;

}  // namespace

LogTargets log_targets(const LogSetting& setting, LineKind kind, LogLevel level) noexcept {
  const bool has_file = setting.path[0] != '\0';
  const auto at_least = [&](LogLevel wanted) { return setting.level >= wanted; };
  switch (kind) {
    case LineKind::kProblem:
      return {has_file && at_least(LogLevel::kError), true};
    case LineKind::kAlert:
      return {has_file && at_least(LogLevel::kWarn), at_least(LogLevel::kWarn)};
    case LineKind::kReport: {
      const bool wanted = at_least(LogLevel::kError);
      return {has_file && wanted, !has_file && wanted};
    }
    case LineKind::kOrdinary:
      break;
  }
  if (level == LogLevel::kOff || !at_least(level)) return {};
  if (has_file) return {true, false};
  return {false, true};
}

MEMLIMIT_AT_START void Log::note_stderr() noexcept {
  os::ErrnoGuard guard;
  struct stat status;
  if (fstat(stderr_fd_, &status) == 0) {
    noted_ = Noted::kOpen;
    stderr_ = {status.st_dev, status.st_ino};
    stderr_device_ = S_ISCHR(status.st_mode) ? status.st_rdev : 0;
  } else {
    noted_ = Noted::kClosed;
  }
}

void Log::open(const Config& config) noexcept {
  if (open_) return;
  os::ErrnoGuard guard;
  if (noted_ == Noted::kNot) note_stderr();
  setting_ = config.log;
  pid_ = os::process_id();
  try {
    if (backend_ == nullptr) backend_ = new LogBackend(this);
  } catch (...) {
    // No memory: send() delivers without spdlog.
  }
  open_ = true;
  if (setting_.path[0] == '\0') return;
  if (const int error = open_file()) {
    char text[LogSetting::kCap + 128];
    TextWriter writer(text, sizeof text);
    writer.put("MEMLIMIT_LOG: cannot open \"").put(setting_.path).put("\" (");
    writer.put_errno(error).put(
        "): use a file that this program may write. Its lines are lost until it can be opened");
    problem(text);
  }
}

bool Log::wants(LogLevel level) const noexcept {
  const LogTargets targets = log_targets(setting_, LineKind::kOrdinary, level);
  return open_ && (targets.file || targets.standard_error);
}

/** Whether the event's words are due again. */
bool Log::may_say(const Event& event) noexcept {
  if (event.kind == EventKind::kLimiterOn) return unheld_.allow(event.time_ns);
  if (event.kind == EventKind::kRoomLow) return room_low_.allow(event.time_ns);
  if (event.kind == EventKind::kHookReturned) return returns_.allow(event.time_ns);
  return event.kind != EventKind::kHookOverran || overruns_.allow(event.time_ns);
}

void Log::event(const Event& event, const EventNames& names) noexcept {
  if (!open_) return;
  const LogLevel level = event_level(event.kind);
  const LogTargets ordinary = log_targets(setting_, LineKind::kOrdinary, level);
  const bool in_words = has_words(event.kind) && ordinary.standard_error;
  char text[960];
  if (wants(level) && (!in_words || setting_.level >= LogLevel::kInfo)) {
    format_event(event, names, text, sizeof text);
    write(level, text);
  }
  const bool alert = event.kind == EventKind::kLimiterOn || event.kind == EventKind::kRoomLow;
  const LineKind kind = alert ? LineKind::kAlert : LineKind::kOrdinary;
  if (!log_targets(setting_, kind, level).standard_error) return;
  if (say_event(event, names, text, sizeof text) == 0 || !may_say(event)) return;
  if (names.may_say != nullptr && !names.may_say(event)) return;
  send(kind, level, text);
}

void Log::reset_after_fork() noexcept {
  pid_ = os::process_id();
  unheld_.reset();
  room_low_.reset();
  overruns_.reset();
  gap_ = 0;
  lost_lines_.store(0, std::memory_order_relaxed);
}

void Log::close() noexcept {
  if (file_fd_ >= 0) ::close(file_fd_);
  file_fd_ = -1;
  delete backend_;
  backend_ = nullptr;
  open_ = false;
}

void Log::send(LineKind kind, LogLevel level, const char* text) noexcept {
  if (!open_) return;
  targets_ = log_targets(setting_, kind, level);
  if (!targets_.file && !targets_.standard_error) return;
  os::ErrnoGuard guard;
  if (backend_ == nullptr) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto now_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    deliver(level, now_ns, text, std::strlen(text));
    return;
  }
  try {
    backend_->logger.log(to_spdlog(level), spdlog::string_view_t(text, std::strlen(text)));
  } catch (...) {
    lose();
  }
}

void Log::deliver(LogLevel level, int64_t unix_ns, const char* text, size_t length) noexcept {
  char buffer[kLineCap];
  if (targets_.file) {
    TextWriter line(buffer, sizeof buffer);
    // The disk may have filled up in the middle of a line: start on a fresh one.
    if (gap_ > 0) line.put('\n');
    put_utc(line, unix_ns);
    put_prefix(line.put(' '), pid_);
    put_text(line.put(' ').put(log_level_name(level)).put(": "), {text, length});
    if (gap_ > 0) line.put(" (after ").put_int(gap_).put(" lost lines)");
    put_to_file(buffer, line.put('\n').length());
  }
  if (targets_.standard_error) {
    TextWriter line(buffer, sizeof buffer);
    put_prefix(line, pid_);
    put_text(line.put(": "), {text, length});
    put_to_stderr(buffer, line.put('\n').length());
  }
}

void Log::put_to_file(const char* line, size_t length) noexcept {
  if (ensure_file() && safe_write(file_fd_, line, length, 0) == 0) {
    gap_ = 0;
  } else {
    ++gap_;
    lose();
  }
}

void Log::put_to_stderr(const char* line, size_t length) noexcept {
  if (!stderr_is_ours() || safe_write(stderr_fd_, line, length, 0) != 0) lose();
}

/**
 * Daemons close descriptor 2, and the next file, client or serial line they open gets its number: a line of
 * ours would corrupt it. What is certainly meant for messages: the file or device that was there at start,
 * the user's terminal, /dev/null, or a file in append mode that was put in its place.
 */
bool Log::stderr_is_ours() const noexcept {
  if (noted_ != Noted::kOpen) return false;
  struct stat status;
  if (fstat(stderr_fd_, &status) != 0) return false;
  if (Identity{status.st_dev, status.st_ino} == stderr_) return true;
  if (S_ISCHR(status.st_mode)) {
    if (status.st_rdev == stderr_device_ || status.st_rdev == makedev(1, 3)) return true;
    return tcgetsid(stderr_fd_) == getsid(0); /* fails for all but the controlling terminal */
  }
  const int flags = fcntl(stderr_fd_, F_GETFL);
  return S_ISREG(status.st_mode) && flags >= 0 && (flags & O_APPEND) != 0;
}

/** Opens the log file in place of the present one. Returns 0, or errno; then the present one stays. */
int Log::open_file() noexcept {
  // O_NONBLOCK: a FIFO without a reader must not hold the service thread.
  constexpr int kFlags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  constexpr mode_t kMode = 0640;
  const int fd = ::open(setting_.path, kFlags, kMode);
  if (fd < 0) return errno;
  struct stat status;
  if (fstat(fd, &status) != 0) {
    const int error = errno;
    ::close(fd);
    return error;
  }
  if (file_fd_ >= 0) ::close(file_fd_);
  file_fd_ = os::move_fd_high(fd);
  file_ = {status.st_dev, status.st_ino};
  return 0;
}

/** Before each line, since a line is rare and both of these happen: the program closed our descriptor
 *  (closefrom) and perhaps uses its number; the file was rotated away. */
bool Log::ensure_file() noexcept {
  struct stat status;
  if (file_fd_ >= 0) {
    const bool same =
        fstat(file_fd_, &status) == 0 && Identity{status.st_dev, status.st_ino} == file_;
    if (!same) file_fd_ = -1; /* not ours any more, so not ours to close */
  }
  const bool in_place = file_fd_ >= 0 && stat(setting_.path, &status) == 0 &&
                        Identity{status.st_dev, status.st_ino} == file_;
  if (!in_place) open_file();
  return file_fd_ >= 0;
}

MEMLIMIT_AT_START Log& process_log() noexcept { return g_log; }

void write_fatal(const char* text) noexcept {
  char line[ConfigError::kCap + 64];
  const size_t length = format_error_line(os::process_id(), text, line, sizeof line);
  safe_write(2, line, length, kStartWaitMs);
}

}  // namespace memlimit
