/* The log: which line goes where, and what a hostile environment does to it. */
#include "observe/log.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <regex.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "settings/environment.h"

using memlimit::Config;
using memlimit::ConfigErrors;
using memlimit::Event;
using memlimit::EventKind;
using memlimit::LineKind;
using memlimit::Log;
using memlimit::log_targets;
using memlimit::LogLevel;
using memlimit::LogSetting;
using memlimit::RateLimiter;

namespace {

constexpr int64_t kMinuteNs = 60'000'000'000;
constexpr int kPatienceMs = 60'000; /* for what happens at once, on a machine that has time */

Config with_log(const std::string& value) {
  const std::string variable = "MEMLIMIT_LOG=" + value;
  const char* const envp[] = {variable.c_str(), nullptr};
  ConfigErrors errors;
  Config config = parse_config(value.empty() ? nullptr : envp, false, &errors);
  REQUIRE(errors.count == 0);
  return config;
}

std::string contents(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool matches(const std::string& text, const char* pattern) {
  regex_t compiled;
  REQUIRE(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB) == 0);
  const bool result = regexec(&compiled, text.c_str(), 0, nullptr, 0) == 0;
  regfree(&compiled);
  return result;
}

int64_t line_count(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

std::string pid_text() { return std::to_string(getpid()); }

/** A directory of its own, removed with what is in it. */
struct Place {
  Place() { REQUIRE(mkdtemp(directory) != nullptr); }
  ~Place() {
    if (DIR* listing = opendir(directory)) {
      while (const dirent* entry = readdir(listing)) unlink(path(entry->d_name).c_str());
      closedir(listing);
    }
    rmdir(directory);
  }
  std::string path(const std::string& name) const { return std::string(directory) + "/" + name; }
  char directory[32] = "/tmp/memlimit-log-XXXXXX";
};

/** A pipe in the part of standard error. */
struct Terminal {
  Terminal() { REQUIRE(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0); }
  ~Terminal() {
    close_reader();
    if (ends[1] >= 0) close(ends[1]);
  }
  void close_reader() {
    if (ends[0] >= 0) close(ends[0]);
    ends[0] = -1;
  }
  int fd() const { return ends[1]; }
  std::string text() const {
    char buffer[8192];
    const ssize_t got = read(ends[0], buffer, sizeof buffer);
    return got > 0 ? std::string(buffer, static_cast<size_t>(got)) : std::string();
  }
  int ends[2];
};

struct OpenLog : Log {
  OpenLog(int stderr_fd, const std::string& value) : Log(stderr_fd) { open(with_log(value)); }
  ~OpenLog() { close(); }
};

/** The descriptor under which this process has that file open, or -1. */
int descriptor_of(const std::string& path) {
  struct stat wanted, status;
  if (stat(path.c_str(), &wanted) != 0) return -1;
  for (int fd = 3; fd < 1024; ++fd) {
    if (fstat(fd, &status) == 0 && status.st_ino == wanted.st_ino &&
        status.st_dev == wanted.st_dev) {
      return fd;
    }
  }
  return -1;
}

}  // namespace

TEST_CASE("log: every kind of line goes where the setting says", "[log]") {
  struct Row {
    const char* setting;
    LineKind kind;
    LogLevel level;
    bool file, standard_error;
  };
  using enum LineKind;
  using enum LogLevel;
  const Row rows[] = {
      // Not set is as good as warn.
      {"", kOrdinary, kError, false, true},
      {"", kOrdinary, kWarn, false, true},
      {"", kOrdinary, kInfo, false, false},
      {"", kProblem, kError, false, true},
      {"", kAlert, kWarn, false, true},
      {"", kReport, kInfo, false, true},
      // Set without a file: standard error was asked for.
      {"warn", kOrdinary, kWarn, false, true},
      {"warn", kOrdinary, kInfo, false, false},
      {"info", kOrdinary, kInfo, false, true},
      {"info", kOrdinary, kDebug, false, false},
      {"debug", kOrdinary, kDebug, false, true},
      {"error", kOrdinary, kError, false, true},
      {"error", kOrdinary, kWarn, false, false},
      {"error", kAlert, kWarn, false, false},
      {"error", kReport, kInfo, false, true},
      {"off", kOrdinary, kError, false, false},
      {"off", kAlert, kWarn, false, false},
      {"off", kReport, kInfo, false, false},
      {"off", kProblem, kError, false, true},
      // With a file: all but problems and alerts is there only.
      {"info:/x", kOrdinary, kError, true, false},
      {"info:/x", kOrdinary, kInfo, true, false},
      {"info:/x", kOrdinary, kDebug, false, false},
      {"info:/x", kProblem, kError, true, true},
      {"info:/x", kAlert, kWarn, true, true},
      {"info:/x", kReport, kInfo, true, false},
      {"error:/x", kAlert, kWarn, false, false},
      {"error:/x", kReport, kInfo, true, false},
      {"off:/x", kOrdinary, kError, false, false},
      {"off:/x", kProblem, kError, false, true},
  };
  for (const Row& row : rows) {
    INFO(row.setting << " kind " << static_cast<int>(row.kind) << " " << log_level_name(row.level));
    const auto targets = log_targets(with_log(row.setting).log, row.kind, row.level);
    CHECK(targets.file == row.file);
    CHECK(targets.standard_error == row.standard_error);
  }
}

TEST_CASE("log: a rate limiter allows one an interval", "[log]") {
  RateLimiter limiter(10 * kMinuteNs);
  CHECK(limiter.allow(5));
  CHECK_FALSE(limiter.allow(5));
  CHECK_FALSE(limiter.allow(5 + 10 * kMinuteNs - 1));
  CHECK(limiter.allow(5 + 10 * kMinuteNs));
  CHECK_FALSE(limiter.allow(5 + 11 * kMinuteNs));
  limiter.reset();
  CHECK(limiter.allow(5 + 11 * kMinuteNs));
}

TEST_CASE("log: lines of a file have time, process and level", "[log]") {
  const Place place;
  const Terminal terminal;
  OpenLog log(terminal.fd(), "info:" + place.path("a.log"));
  errno = 77;
  log.write(LogLevel::kInfo, "hello");
  log.write(LogLevel::kWarn, "there");
  log.write(LogLevel::kDebug, "not this");
  CHECK(errno == 77);
  const std::string text = contents(place.path("a.log"));
  const std::string expected =
      "^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{6}Z memlimit\\[" +
      pid_text() + "\\] info: hello\n20[^\n]* warn: there\n$";
  INFO(text);
  CHECK(matches(text, expected.c_str()));
  CHECK(terminal.text().empty());
  CHECK(log.lost_lines() == 0);
}

TEST_CASE("log: the time of a line is the present, in UTC", "[log]") {
  const Place place;
  const Terminal terminal;
  const auto minute_now = [] {
    const time_t now = time(nullptr);
    tm utc;
    gmtime_r(&now, &utc);
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M", &utc);
    return std::string(text);
  };
  OpenLog log(terminal.fd(), "info:" + place.path("a.log"));
  const std::string before = minute_now();
  log.write(LogLevel::kInfo, "x");
  const std::string after = minute_now();
  const std::string written = contents(place.path("a.log")).substr(0, before.size());
  CHECK((written == before || written == after));
}

TEST_CASE("log: lines on standard error look like the ones of settings", "[log]") {
  const Terminal terminal;
  OpenLog log(terminal.fd(), "info");
  log.write(LogLevel::kInfo, "hello");
  CHECK(terminal.text() == "memlimit[" + pid_text() + "]: hello\n");
}

TEST_CASE("log: nothing is said before it is open", "[log]") {
  const Terminal terminal;
  Log log(terminal.fd());
  log.write(LogLevel::kError, "hello");
  log.problem("hello");
  log.event({EventKind::kLimiterOn, 1, {2, 1, 0, 0}}, {});
  CHECK_FALSE(log.wants(LogLevel::kError));
  CHECK(terminal.text().empty());
}

TEST_CASE("log: text cannot make lines of its own, and is cut", "[log]") {
  const Terminal terminal;
  OpenLog log(terminal.fd(), "info");
  log.write(LogLevel::kInfo, "a\nmemlimit[1]: forged \x1b[31m\x7f\xc3\xa9");
  CHECK(terminal.text() == "memlimit[" + pid_text() + "]: a?memlimit[1]: forged ?[31m?\xc3\xa9\n");
  log.write(LogLevel::kInfo, std::string(10'000, 'x').c_str());
  const std::string text = terminal.text();
  CHECK(text.size() < 4096);
  CHECK(text.substr(text.size() - 5) == "x...\n");
}

TEST_CASE("log: a file that cannot be opened is one line, and opens when it can", "[log]") {
  const Place place;
  const Terminal terminal;
  const std::string path = place.path("sub/a.log");
  OpenLog log(terminal.fd(), "info:" + path);
  CHECK(terminal.text() ==
        "memlimit[" + pid_text() + "]: MEMLIMIT_LOG: cannot open \"" + path +
            "\" (No such file or directory): use a file that this program may write. Its lines are "
            "lost until it can be opened\n");
  // The problem itself was also a line for the file.
  CHECK(log.lost_lines() == 1);
  log.write(LogLevel::kInfo, "lost");
  CHECK(log.lost_lines() == 2);
  CHECK(terminal.text().empty());
  REQUIRE(mkdir(place.path("sub").c_str(), 0700) == 0);
  log.write(LogLevel::kInfo, "found");
  CHECK(matches(contents(path), "info: found \\(after 2 lost lines\\)\n$"));
  log.write(LogLevel::kInfo, "next");
  CHECK(matches(contents(path), "Z memlimit\\[[0-9]+\\] info: next\n$"));
  unlink(path.c_str());
  rmdir(place.path("sub").c_str());
}

TEST_CASE("log: a full disk loses lines and says so when there is room again", "[log]") {
  const Place place;
  const Terminal terminal;
  const std::string path = place.path("a.log");
  REQUIRE(symlink("/dev/full", path.c_str()) == 0);
  OpenLog log(terminal.fd(), "info:" + path);
  log.write(LogLevel::kInfo, "one");
  log.write(LogLevel::kError, "two");
  CHECK(log.lost_lines() == 2);
  REQUIRE(unlink(path.c_str()) == 0);
  log.write(LogLevel::kInfo, "three");
  CHECK(log.lost_lines() == 2);
  CHECK(matches(contents(path), "info: three \\(after 2 lost lines\\)\n$"));
  CHECK(terminal.text().empty());
}

TEST_CASE("log: a rotated file is left, and a new one made in its place", "[log]") {
  const Place place;
  const Terminal terminal;
  const std::string path = place.path("a.log"), old = place.path("a.log.1");
  OpenLog log(terminal.fd(), "info:" + path);
  log.write(LogLevel::kInfo, "before");
  REQUIRE(rename(path.c_str(), old.c_str()) == 0);
  log.write(LogLevel::kInfo, "after");
  CHECK(matches(contents(old), "before\n$"));
  CHECK(matches(contents(path), "after\n$"));
  CHECK(line_count(contents(path)) == 1);
  CHECK(descriptor_of(old) == -1);
}

TEST_CASE("log: a descriptor that the program took over is never written to", "[log]") {
  const Place place;
  const Terminal terminal;
  const std::string path = place.path("a.log"), data = place.path("database");
  OpenLog log(terminal.fd(), "info:" + path);
  log.write(LogLevel::kInfo, "before");
  const int fd = descriptor_of(path);
  REQUIRE(fd > 2);
  // What closefrom(3) and an open() after it do.
  const int other = open(data.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(other >= 0);
  REQUIRE(dup2(other, fd) == fd);
  log.write(LogLevel::kInfo, "after");
  CHECK(contents(data).empty());
  CHECK(matches(contents(path), "after\n$"));
  CHECK(line_count(contents(path)) == 2);
  // And it is the program's to close.
  CHECK(fcntl(fd, F_GETFD) >= 0);
  close(fd);
  close(other);
}

TEST_CASE("log: standard error that was closed at start stays silent", "[log]") {
  const Terminal terminal;
  const int fd = fcntl(terminal.fd(), F_DUPFD_CLOEXEC, 500);
  REQUIRE(fd >= 500);
  close(fd);
  Log log(fd);
  log.note_stderr();
  REQUIRE(dup2(terminal.fd(), fd) == fd);
  log.open(with_log("info"));
  log.write(LogLevel::kError, "x");
  CHECK(terminal.text().empty());
  CHECK(log.lost_lines() == 1);
  log.close();
  close(fd);
}

TEST_CASE("log: what took the place of standard error is written to only if it is for messages",
          "[log]") {
  const Place place;
  const Terminal terminal;
  const int fd = fcntl(terminal.fd(), F_DUPFD_CLOEXEC, 500);
  REQUIRE(fd >= 500);
  Log log(fd);
  log.note_stderr();
  log.open(with_log("info"));
  const auto replace = [&](const char* name, int flags) {
    const int file = open(place.path(name).c_str(), flags | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(file >= 0);
    REQUIRE(dup2(file, fd) == fd);
    close(file);
  };
  replace("database", O_RDWR);
  log.write(LogLevel::kInfo, "x");
  CHECK(contents(place.path("database")).empty());
  CHECK(log.lost_lines() == 1);
  const Terminal client;
  REQUIRE(dup2(client.fd(), fd) == fd);
  log.write(LogLevel::kInfo, "x");
  CHECK(client.text().empty());
  CHECK(log.lost_lines() == 2);
  replace("daemon.log", O_WRONLY | O_APPEND);
  log.write(LogLevel::kInfo, "x");
  CHECK(line_count(contents(place.path("daemon.log"))) == 1);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  REQUIRE(dup2(null, fd) == fd);
  log.write(LogLevel::kInfo, "x");
  CHECK(log.lost_lines() == 2);
  log.close();
  close(null);
  close(fd);
}

TEST_CASE(
    "log: of the devices in the place of standard error only the user's terminal is written to",
    "[log][fork]") {
  const Terminal terminal;
  const int fd = fcntl(terminal.fd(), F_DUPFD_CLOEXEC, 500);
  REQUIRE(fd >= 500);
  Log log(fd);
  log.note_stderr();
  log.open(with_log("info"));
  // A line to some machine: what is written to it is read there as a command.
  const int line = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  REQUIRE(line >= 0);
  REQUIRE(grantpt(line) == 0);
  REQUIRE(unlockpt(line) == 0);
  const std::string name = ptsname(line);
  const int serial = open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  REQUIRE(serial >= 0);
  REQUIRE(dup2(serial, fd) == fd);
  log.write(LogLevel::kInfo, "x");
  char byte;
  CHECK(read(line, &byte, 1) == -1);
  CHECK(log.lost_lines() == 1);
  close(serial);
  close(fd);
  // The same one, as the terminal that a session was begun on.
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    const int opened = open(name.c_str(), O_RDWR | O_CLOEXEC);
    dup2(opened, fd);
    log.write(LogLevel::kInfo, "y");
    pollfd ready{line, POLLIN, 0};
    _exit(log.lost_lines() == 1 && poll(&ready, 1, kPatienceMs) == 1 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  log.close();
  close(line);
}

TEST_CASE("log: a reader that is gone or slow costs a line, not the program", "[log]") {
  Terminal terminal;
  OpenLog log(terminal.fd(), "info");
  const std::string block(4096, 'x');
  while (write(terminal.fd(), block.data(), block.size()) > 0) {
  }
  const int flags = fcntl(terminal.fd(), F_GETFL);
  REQUIRE(fcntl(terminal.fd(), F_SETFL, flags & ~O_NONBLOCK) == 0);
  log.write(LogLevel::kInfo, "would block");
  CHECK(log.lost_lines() == 1);
  terminal.close_reader();
  log.write(LogLevel::kInfo, "would be killed");
  CHECK(log.lost_lines() == 2);
}

TEST_CASE("log: events are lines of their own level", "[log]") {
  const Place place;
  const Terminal terminal;
  OpenLog log(terminal.fd(), "info:" + place.path("a.log"));
  log.event({EventKind::kRound, 1, {1, 2, 3, 4}}, {});
  CHECK(contents(place.path("a.log")).empty());
  log.event({EventKind::kHookAdded, 5, {3, 0, 0, 0}}, {[](int64_t) { return "cache"; }});
  CHECK(matches(contents(place.path("a.log")),
                "info: event=hook_added time_ns=5 slot=3 hook=cache\n$"));
  CHECK(terminal.text().empty());
}

TEST_CASE("log: that the limit cannot be held is said once in ten minutes", "[log]") {
  const Terminal terminal;
  constexpr int64_t kMiB = 1 << 20;
  const auto limiter_on = [](int64_t minute) {
    return Event{EventKind::kLimiterOn, minute * kMinuteNs, {610 * kMiB, 512 * kMiB, 0, 0}};
  };
  OpenLog log(terminal.fd(), "");
  log.event(limiter_on(1), {});
  CHECK(terminal.text() ==
        "memlimit[" + pid_text() +
            "]: the limit cannot be held: not enough can be given back. 610 MiB remain after "
            "reclaim, the limit is 512 MiB: it would hold from 610 MiB on\n");
  log.event(limiter_on(2), {});
  log.event(limiter_on(10), {});
  CHECK(terminal.text().empty());
  log.event(limiter_on(11), {});
  CHECK(line_count(terminal.text()) == 1);

  // Another process of the container has said it.
  memlimit::EventNames silent;
  silent.may_say = [](const Event&) { return false; };
  OpenLog other(terminal.fd(), "");
  other.event(limiter_on(1), silent);
  CHECK(terminal.text().empty());

  OpenLog quiet(terminal.fd(), "error");
  quiet.event(limiter_on(1), {});
  CHECK(terminal.text().empty());

  // Set to what it is by default: the same words, and as rarely.
  OpenLog same(terminal.fd(), "warn");
  same.event(limiter_on(1), {});
  const std::string said = terminal.text();
  CHECK(said.find("event=") == std::string::npos);
  CHECK(line_count(said) == 1);
  same.event(limiter_on(2), {});
  CHECK(terminal.text().empty());

  // Asked for more: the event's line every time, and the words as rarely.
  OpenLog talkative(terminal.fd(), "info");
  talkative.event(limiter_on(1), {});
  talkative.event(limiter_on(2), {});
  CHECK(line_count(terminal.text()) == 3);

  const Place place;
  OpenLog both(terminal.fd(), "warn:" + place.path("a.log"));
  both.event(limiter_on(1), {});
  both.event(limiter_on(2), {});
  CHECK(line_count(terminal.text()) == 1);
  CHECK(contents(place.path("a.log")).find("event=limiter_on") != std::string::npos);
}

TEST_CASE("log: warnings are told by default, in words and each kind rarely", "[log]") {
  const Terminal terminal;
  OpenLog log(terminal.fd(), "");
  const auto overran = [](int64_t minute) {
    return Event{EventKind::kHookOverran, minute * kMinuteNs, {3, 7, 312'000'000, 0}};
  };
  log.event(overran(1), {[](int64_t) { return "cache"; }});
  CHECK(terminal.text() ==
        "memlimit[" + pid_text() +
            "]: a hook runs too long: cache took 0.312 s in round 7. Others wait "
            "for it meanwhile\n");
  log.event(overran(2), {});
  CHECK(terminal.text().empty());
  // Another kind has its own rate.
  log.event({EventKind::kHookReturned, 2 * kMinuteNs, {3, 7, 12'000'000'000, 0}},
            {[](int64_t) { return ""; }});
  CHECK(terminal.text() ==
        "memlimit[" + pid_text() +
            "]: a hook that ran too long has returned: the one in slot 3 took 12.0 s in "
            "round 7\n");
  log.event({EventKind::kLimiterOn, 2 * kMinuteNs, {2 << 20, 1 << 20, 0, 0}}, {});
  log.event({EventKind::kRoomLow, 2 * kMinuteNs, {1 << 20, 64 << 20, 0, 0}}, {});
  CHECK(line_count(terminal.text()) == 2);
  // Who emits this one writes its words.
  log.event({EventKind::kSocketFailed, 3 * kMinuteNs, {2, 0, 0, 0}}, {});
  log.event({EventKind::kHookAdded, 3 * kMinuteNs, {2, 0, 0, 0}}, {});
  CHECK(terminal.text().empty());

  const Place place;
  OpenLog both(terminal.fd(), "warn:" + place.path("a.log"));
  both.event(overran(1), {});
  both.event({EventKind::kSocketFailed, 3 * kMinuteNs, {2, 0, 0, 0}}, {});
  CHECK(terminal.text().empty());
  CHECK(line_count(contents(place.path("a.log"))) == 2);
  // That the kernel kills next is nowhere else to be seen.
  both.event({EventKind::kRoomLow, 2 * kMinuteNs, {1 << 20, 64 << 20, 0, 0}}, {});
  CHECK(line_count(terminal.text()) == 1);
}

TEST_CASE("log: the child of fork logs under its own process id, to the same file", "[log][fork]") {
  const Place place;
  const Terminal terminal;
  OpenLog log(terminal.fd(), "info:" + place.path("a.log"));
  log.write(LogLevel::kInfo, "parent");
  const pid_t child = fork();
  if (child == 0) {
    log.reset_after_fork();
    log.write(LogLevel::kInfo, "child");
    _exit(log.lost_lines() == 0 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  log.write(LogLevel::kInfo, "again");
  const std::string text = contents(place.path("a.log"));
  INFO(text);
  CHECK(text.find("[" + std::to_string(child) + "] info: child\n") != std::string::npos);
  CHECK(text.find("[" + pid_text() + "] info: again\n") != std::string::npos);
  CHECK(line_count(text) == 3);
}

TEST_CASE("log: opening twice is opening once", "[log]") {
  const Place place;
  const Terminal terminal;
  OpenLog log(terminal.fd(), "info:" + place.path("a.log"));
  const int fd = descriptor_of(place.path("a.log"));
  log.open(with_log("info:" + place.path("b.log")));
  CHECK(descriptor_of(place.path("a.log")) == fd);
  CHECK(descriptor_of(place.path("b.log")) == -1);
}

TEST_CASE("log: a FIFO without a reader does not hold the program", "[log]") {
  const Place place;
  const Terminal terminal;
  REQUIRE(mkfifo(place.path("fifo").c_str(), 0600) == 0);
  OpenLog log(terminal.fd(), "info:" + place.path("fifo"));
  log.write(LogLevel::kInfo, "x");
  CHECK(log.lost_lines() == 2);
}

TEST_CASE("log: a fatal line is out at once, on standard error", "[log][fork]") {
  const Terminal terminal;
  const pid_t child = fork();
  if (child == 0) {
    dup2(terminal.fd(), 2);
    memlimit::write_fatal("MEMLIMIT=\"x\" is not a size");
    close(2);
    memlimit::write_fatal("nobody hears this, and nothing happens");
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(terminal.text() ==
        "memlimit[" + std::to_string(child) + "]: MEMLIMIT=\"x\" is not a size\n");
}
