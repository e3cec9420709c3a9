/* The log: lines for an operator, in a file or on standard error. They pass through a backend: log_spdlog.cc is the only file
 * that knows spdlog, and uses none of its global state (no registry, no default logger, no patterns, no local time).
 *
 * Answers for: who hears what. Standard error belongs to the program: by default it gets problems of settings, errors
 * and warnings, in words and each kind once in ten minutes at most. Refuses to throw, to
 * block, to die of SIGPIPE, and to write into a file that took the place of a descriptor it knew.
 * Threads: the service thread only, but for write_fatal() and lost_lines(); note_stderr() at start.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "observe/event_ring.h"
#include "settings/config.h"

namespace memlimit {

/** At most one permission an interval. Time is handed in, so that tests need not wait. */
class RateLimiter {
 public:
  constexpr explicit RateLimiter(int64_t interval_ns) noexcept : interval_ns_(interval_ns) {}

  bool allow(int64_t now_ns) noexcept {
    if (used_ && now_ns - last_ns_ < interval_ns_) return false;
    used_ = true;
    last_ns_ = now_ns;
    return true;
  }

  void reset() noexcept { used_ = false; }

 private:
  int64_t interval_ns_;
  int64_t last_ns_ = 0;
  bool used_ = false;
};

/** What kind of line it is decides, with MEMLIMIT_LOG, where it goes. */
enum class LineKind : uint8_t {
  kOrdinary, /* as its level says */
  kProblem,  /* of a setting: never silent */
  kAlert, /* the limit cannot be held, or the container is full: on standard error beside a file, too */
  kReport, /* MEMLIMIT_REPORT's, which somebody asked for */
};

struct LogTargets {
  bool file = false;
  bool standard_error = false;
};

/** Where a line goes; pure. `level` matters for kOrdinary only. The rate of alerts is not looked at. */
LogTargets log_targets(const LogSetting& setting, LineKind kind, LogLevel level) noexcept;

struct LogBackend; /* spdlog's side, in log_backend.h */

class Log {
 public:
  constexpr explicit Log(int stderr_fd = 2) noexcept : stderr_fd_(stderr_fd) {}
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /**
   * Remembers which file standard error is, so that a file the program opens later under the same number
   * is never written to. Call it at start; open() does when nobody did. One system call, no allocation.
   */
  void note_stderr() noexcept;

  /** Opens the file, if MEMLIMIT_LOG names one; a failure becomes a line on standard error. Does nothing
   *  when it is open already (in the child of fork, for one). Allocates. Never fails. */
  void open(const Config& config) noexcept;

  /** Whether a line of that level goes anywhere: for callers whose lines cost something to make. */
  bool wants(LogLevel level) const noexcept;

  /** A line, `text` without prefix and newline; longer than 2 KiB it is cut. Before open() it is dropped. */
  void write(LogLevel level, const char* text) noexcept { send(LineKind::kOrdinary, level, text); }

  /** A setting that turned out to be bad after start, such as a file that cannot be opened. */
  void problem(const char* text) noexcept { send(LineKind::kProblem, LogLevel::kError, text); }

  /** A line for MEMLIMIT_REPORT. */
  void report(const char* text) noexcept { send(LineKind::kReport, LogLevel::kInfo, text); }

  /** In a file format_event() as a line of the event's level. On standard error say_event() where there are words, each
   *  kind at most once in ten minutes of the events' own time, and where names.may_say() agrees; format_event() for the
   *  others, and from level info on for all. */
  void event(const Event& event, const EventNames& names) noexcept;

  /** In the child of fork: its own process id in the lines, its own rate. Keeps the file (append mode, so
   *  lines of both do not mix). No system call but getpid, no allocation. */
  void reset_after_fork() noexcept;

  /** Closes the file and frees everything. For tests: a process's log is never closed. */
  void close() noexcept;

  /** Lines that went nowhere since the start: disk full, reader gone, no room. Threads: any. */
  uint64_t lost_lines() const noexcept { return lost_lines_.load(std::memory_order_relaxed); }

 private:
  friend struct LogBackend;

  /** Which file a descriptor stands for. */
  struct Identity {
    uint64_t device = 0, inode = 0;
    friend bool operator==(const Identity&, const Identity&) = default;
  };
  enum class Noted : uint8_t { kNot, kClosed, kOpen };

  static constexpr int64_t kSaidIntervalNs = 600'000'000'000;

  bool may_say(const Event& event) noexcept;
  void send(LineKind kind, LogLevel level, const char* text) noexcept;
  void deliver(LogLevel level, int64_t unix_ns, const char* text, size_t length) noexcept;
  void put_to_file(const char* line, size_t length) noexcept;
  void put_to_stderr(const char* line, size_t length) noexcept;
  bool stderr_is_ours() const noexcept;
  int open_file() noexcept;
  bool ensure_file() noexcept;
  void lose() noexcept { lost_lines_.fetch_add(1, std::memory_order_relaxed); }

  LogSetting setting_;
  bool open_ = false;
  Noted noted_ = Noted::kNot;
  int stderr_fd_;
  Identity stderr_;
  uint64_t stderr_device_ = 0; /* that it was, when it was one */
  int file_fd_ = -1;
  Identity file_;
  int pid_ = 0;
  LogTargets targets_;                  /* of the line on its way through spdlog */
  int64_t gap_ = 0;                     /* lines that the file missed since the last one it got */
  RateLimiter unheld_{kSaidIntervalNs}; /* of say_event(), for each kind */
  RateLimiter room_low_{kSaidIntervalNs};
  RateLimiter overruns_{kSaidIntervalNs};
  RateLimiter returns_{kSaidIntervalNs};
  std::atomic<uint64_t> lost_lines_{0};
  LogBackend* backend_ =
      nullptr; /* never freed but by close(): lines may come until the very end */
};

/** This process's log. */
Log& process_log() noexcept;

/**
 * "memlimit[PID]: TEXT" and a newline on standard error, at once: for errors at start, when there is no
 * service thread. Does not go through spdlog. Threads: any. Allocates: no. Waits at most 100 ms for room.
 */
void write_fatal(const char* text) noexcept;

}  // namespace memlimit
