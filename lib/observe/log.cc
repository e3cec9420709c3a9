#include "observe/log.h"

#include <cerrno>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "observe/event_words.h"
#include "observe/log_backend.h"
#include "settings/environment.h"
#include "system/attributes.h"
#include "system/low_numbers.h"
#include "system/os.h"
#include "system/safe_write.h"
#include "system/text.h"

namespace memlimit {

namespace {

// A line must fit into what a pipe takes in one piece (4096), or lines of several processes mix.
constexpr size_t kTextCap = 2048;
constexpr size_t kLineCap = kTextCap + 128;
constexpr int kStartWaitMs = 100;

/** "2026-11-23T15:04:05.123456Z": UTC by arithmetic, with no time zone to load and no lock. */
void put_utc(TextWriter& out, int64_t unix_ns) noexcept {
  constexpr int64_t kUsPerSecond = 1'000'000, kSecondsPerDay = 86'400;
  const int64_t us = unix_ns / 1000;
  const int64_t seconds = us / kUsPerSecond;
  const int64_t second_of_day = seconds % kSecondsPerDay;
  // From March on the lengths of months follow a rule, in eras of 400 years.
  constexpr int64_t kDaysToEpoch = 719'468, kDaysPerEra = 146'097;
  const int64_t days = seconds / kSecondsPerDay + kDaysToEpoch;
  const int64_t day_of_era = days % kDaysPerEra;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_from_march = (5 * day_of_year + 2) / 153;
  const int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
  out.put_int(days / kDaysPerEra * 400 + year_of_era + (month <= 2 ? 1 : 0), 4).put('-');
  out.put_int(month, 2).put('-');
  out.put_int(day_of_year - (153 * month_from_march + 2) / 5 + 1, 2).put('T');
  out.put_int(second_of_day / 3600, 2).put(':');
  out.put_int(second_of_day / 60 % 60, 2).put(':');
  out.put_int(second_of_day % 60, 2).put('.');
  out.put_int(us % kUsPerSecond, 6).put('Z');
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
  if (backend_ == nullptr) backend_ = log_backend::open(this);
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
  log_backend::close(backend_);
  backend_ = nullptr;
  open_ = false;
}

void Log::send(LineKind kind, LogLevel level, const char* text) noexcept {
  if (!open_) return;
  targets_ = log_targets(setting_, kind, level);
  if (!targets_.file && !targets_.standard_error) return;
  os::ErrnoGuard guard;
  if (backend_ == nullptr) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    deliver(level, int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec, text, std::strlen(text));
  } else if (!log_backend::hand_over(*backend_, level, text)) {
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
  if (!in_place && low_numbers::may_take()) open_file();
  return file_fd_ >= 0;
}

MEMLIMIT_AT_START Log& process_log() noexcept { return g_log; }

void write_fatal(const char* text) noexcept {
  char line[ConfigError::kCap + 64];
  const size_t length = format_error_line(os::process_id(), text, line, sizeof line);
  safe_write(2, line, length, kStartWaitMs);
}

}  // namespace memlimit
