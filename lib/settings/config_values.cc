#include "settings/config_values.h"

#include <cerrno>
#include <climits>
#include <csignal>
#include <optional>

#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "settings/spelling.h"
#include "settings/units.h"
#include "system/os.h"

namespace memlimit {
namespace {

constexpr int kAutoPercent = 90;
constexpr int kMaxGrowthPercent = 10'000;
constexpr int64_t kMaxReportSeconds = 86'400;
constexpr int64_t kMaxAssistNs = 1'000'000'000;

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool one_of(std::string_view text, std::initializer_list<std::string_view> words) noexcept {
  for (const std::string_view word : words) {
    if (text == word) return true;
  }
  return false;
}

/** Digits only, and no more than `max`. */
std::optional<int64_t> read_number(std::string_view text, int64_t max) noexcept {
  if (text.empty()) return std::nullopt;
  int64_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return std::nullopt;
    if (value > (max - (c - '0')) / 10) return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

/** "%", if it is there, taken off. */
bool take_suffix(std::string_view& text, std::string_view suffix) noexcept {
  if (text.size() < suffix.size() || text.substr(text.size() - suffix.size()) != suffix) {
    return false;
  }
  text.remove_suffix(suffix.size());
  return true;
}

/** "is WHAT: did you mean GUESS?", or "is WHAT: RIGHT." when there is no guess. */
Verdict bad(TextWriter& why, std::string_view what, std::string_view guess,
            std::string_view right) noexcept {
  why.put("is ").put(what).put(": ");
  if (guess.empty()) {
    why.put(right).put('.');
  } else {
    why.put("did you mean ").put(guess).put('?');
  }
  return Verdict::kBad;
}

/** A percentage that was written otherwise: "80 %", "0.8", "80percent". 0 when it was none. */
int guess_percent(std::string_view text) noexcept {
  int value = 0;
  size_t at = 0;
  if (text.substr(0, 2) == "0." || text.substr(0, 1) == ".") {
    at = text[0] == '.' ? 1 : 2;
    int scale = 10;
    for (; at < text.size() && is_digit(text[at]) && scale > 0; ++at, scale /= 10) {
      value += (text[at] - '0') * scale;
    }
    return at == text.size() ? value : 0;
  }
  for (; at < text.size() && is_digit(text[at]) && value <= 100; ++at) {
    value = value * 10 + (text[at] - '0');
  }
  while (at < text.size() && text[at] == ' ') ++at;
  const std::string_view rest = text.substr(at);
  return at > 0 && one_of(rest, {"%", "percent", " percent", "pct", "%%"}) ? value : 0;
}

Verdict bad_percent(TextWriter& why, std::string_view text, int max,
                    std::string_view right) noexcept {
  char guess[16];
  TextWriter writer(guess, sizeof guess);
  const int percent = guess_percent(text);
  if (percent > 0 && percent <= max) writer.put_int(percent).put('%');
  return bad(why, "not a percentage", writer.view(), right);
}

// ---- MEMLIMIT

constexpr std::string_view kLimitForms =
    "write a number with B, KiB, MiB, GiB or TiB (512MiB), a percentage of the container's memory "
    "(80%), auto or off";

Verdict parse_limit_percent(std::string_view text, std::string_view digits, LimitSetting& limit,
                            TextWriter& why) noexcept {
  const auto percent = read_number(digits, INT_MAX);
  if (!percent) {
    return bad_percent(why, text, 100, "write a whole one from 1% to 100%");
  }
  if (*percent < 1 || *percent > 100) {
    return bad(
        why, "outside of 1% to 100%", "",
        *percent == 0 ? "write off for no limit" : "the limit is a part of the memory there is");
  }
  limit = {LimitKind::kPercent, 0, static_cast<int>(*percent)};
  return Verdict::kOk;
}

Verdict parse_limit_value(std::string_view text, LimitSetting& limit, TextWriter& why) noexcept {
  if (text == "off") {
    limit = {};
    return Verdict::kOk;
  }
  if (text == "auto") {
    limit = {LimitKind::kAuto, 0, kAutoPercent};
    return Verdict::kOk;
  }
  std::string_view digits = text;
  if (take_suffix(digits, "%")) return parse_limit_percent(text, digits, limit, why);

  SizeError error;
  if (const auto bytes = parse_size(text, &error)) {
    if (*bytes > 0) {
      limit = {LimitKind::kBytes, *bytes, 0};
      return Verdict::kOk;
    }
    limit = {};
    why.put("means no limit. Write off to say so without this line");
    return Verdict::kNotice;
  }
  if (error == SizeError::kOverflow) {
    return bad(why, "too large", "", "sizes end at 8388607TiB, and off means no limit");
  }
  char guess[64];
  if (suggest_size(text, guess, sizeof guess) > 0) return bad(why, "not a size", guess, "");
  if (one_of(text, {"none", "no", "false", "disabled", "unlimited", "infinity", "max", "-1"})) {
    return bad(why, "not a size", "off", "");
  }
  if (guess_percent(text) > 0) return bad_percent(why, text, 100, kLimitForms);
  return bad(why, "not a size", nearest(text, {"off", "auto"}), kLimitForms);
}

Verdict parse_limit(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  return parse_limit_value(text, config.limit, why);
}

void render_limit(const Config& config, TextWriter& out) noexcept {
  char size[32];
  switch (config.limit.kind) {
    case LimitKind::kOff:
      out.put("off");
      break;
    case LimitKind::kBytes:
      format_size_exact(config.limit.bytes, size, sizeof size);
      out.put(size);
      break;
    case LimitKind::kPercent:
      out.put_int(config.limit.percent).put('%');
      break;
    case LimitKind::kAuto:
      out.put("auto");
      break;
  }
}

// ---- MEMLIMIT_START, MEMLIMIT_GROWTH

Verdict parse_start(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  std::string_view digits = text;
  take_suffix(digits, "%");
  const auto percent = read_number(digits, INT_MAX);
  if (!percent) return bad_percent(why, text, 99, "write 1% to 99% of the limit");
  if (*percent < 1 || *percent > 99) {
    return bad(why, "out of range", "", "write 1% to 99% of the limit");
  }
  config.start_percent = static_cast<int>(*percent);
  return Verdict::kOk;
}

void render_start(const Config& config, TextWriter& out) noexcept {
  out.put_int(config.start_percent).put('%');
}

Verdict parse_growth(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  std::string_view digits = text;
  take_suffix(digits, "%");
  const auto percent = text == "off" ? 0 : read_number(digits, INT_MAX);
  constexpr std::string_view kRight = "write 1% to 10000%, or off";
  if (!percent) {
    const std::string_view guess = nearest(text, {"off"});
    if (!guess.empty()) return bad(why, "not a percentage", guess, "");
    return bad_percent(why, text, 100, kRight);
  }
  if (*percent > kMaxGrowthPercent) return bad(why, "out of range", "", kRight);
  config.growth_percent = static_cast<int>(*percent);
  return Verdict::kOk;
}

void render_growth(const Config& config, TextWriter& out) noexcept {
  if (config.growth_percent == 0) {
    out.put("off");
  } else {
    out.put_int(config.growth_percent).put('%');
  }
}

// ---- MEMLIMIT_ACCOUNT

constexpr std::string_view kAccountNames[] = {"auto", "heap", "rss", "cgroup"};

Verdict parse_account(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  for (size_t i = 0; i < std::size(kAccountNames); ++i) {
    if (text != kAccountNames[i]) continue;
    config.account = static_cast<AccountMode>(i);
    return Verdict::kOk;
  }
  return bad(why, "not a way of counting", nearest(text, kAccountNames, std::size(kAccountNames)),
             "write auto, heap, rss or cgroup");
}

void render_account(const Config& config, TextWriter& out) noexcept {
  out.put(kAccountNames[static_cast<size_t>(config.account)]);
}

// ---- paths

/**
 * `text` made absolute, since programs change directory before the file is opened. A '%' of the
 * working directory is doubled where `percent` has a meaning. False when the directory cannot be
 * told.
 */
bool put_absolute(TextWriter& out, std::string_view text, bool percent) noexcept {
  if (text.front() != '/') {
    os::ErrnoGuard guard;
    char directory[PATH_MAX];
    // The kernel answers "(unreachable)/..." for a directory outside of the root.
    if (syscall(SYS_getcwd, directory, sizeof directory) < 0 || directory[0] != '/') return false;
    for (const char c : std::string_view(directory)) {
      if (percent && c == '%') out.put('%');
      out.put(c);
    }
    if (out.view().back() != '/') out.put('/');
    if (text.substr(0, 2) == "./") text.remove_prefix(2);
  }
  out.put(text);
  return true;
}

constexpr std::string_view kNoDirectory =
    "write it from the root on, the working directory has no path";

// ---- MEMLIMIT_SOCKET, MEMLIMIT_SOCKET_MODE

constexpr size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;
constexpr size_t kLongestPid = 7; /* PID_MAX_LIMIT is 4194304 */
constexpr std::string_view kSocketSuffix = ".sock";

/** Bytes of the longest path that the text can become, but for a host name, which counts as one
 * byte: whoever binds it checks again. Negative: a '%' is followed by something unknown. */
int64_t expanded_length(std::string_view text) noexcept {
  size_t length = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      ++length;
      continue;
    }
    ++i;
    if (i >= text.size() || !one_of(text.substr(i, 1), {"p", "h", "%"})) return -1;
    length += text[i] == 'p' ? kLongestPid : 1;
  }
  return static_cast<int64_t>(length);
}

Verdict parse_socket(std::string_view text, bool secure, Config& config, TextWriter& why) noexcept {
  if (text == "off" || text == "auto") {
    config.socket = {};
    config.socket.kind = text == "off" ? SocketKind::kOff : SocketKind::kDefault;
    return Verdict::kOk;
  }
  constexpr std::string_view kForms =
      "write a path (/run/app.sock), a directory (/run/app/), auto or off";
  // A bare word is a wrong word more often than a file in the working directory: on, 1, none.
  if (text.find_first_of("/.%") == std::string_view::npos) {
    return bad(why, "not a path", nearest(text, {"off", "auto"}), kForms);
  }
  if (secure) return Verdict::kIgnored;

  if (expanded_length(text) < 0) {
    return bad(why, "not a path", "", "after % only p (process id), h (host name) and % are known");
  }
  SocketSetting socket;
  TextWriter path(socket.text, sizeof socket.text);
  if (!put_absolute(path, text, true)) return bad(why, "a relative path", "", kNoDirectory);
  const bool directory = text.back() == '/';
  socket.kind = directory ? SocketKind::kDirectory : SocketKind::kPath;
  auto length = static_cast<size_t>(expanded_length(path.view()));
  if (directory) length += kLongestPid + kSocketSuffix.size();
  if (path.truncated() || length > kMaxSocketPath) {
    why.put("is too long for a socket: the whole path may have ").put_int(kMaxSocketPath);
    why.put(" bytes");
    if (!path.truncated()) why.put(", this one can reach ").put_int(static_cast<int64_t>(length));
    why.put('.');
    return Verdict::kBad;
  }
  config.socket = socket;
  return Verdict::kOk;
}

void render_socket(const Config& config, TextWriter& out) noexcept {
  switch (config.socket.kind) {
    case SocketKind::kDefault:
      out.put("auto");
      break;
    case SocketKind::kOff:
      out.put("off");
      break;
    case SocketKind::kPath:
    case SocketKind::kDirectory:
      out.put(config.socket.text);
      break;
  }
}

Verdict parse_socket_mode(std::string_view text, bool secure, Config& config,
                          TextWriter& why) noexcept {
  constexpr unsigned kOwnerBits = 0600, kAllBits = 0777;
  unsigned mode = 0;
  bool octal = text.size() <= 4;
  for (const char c : text) {
    if (c < '0' || c > '7') octal = false;
    mode = mode * 8 + static_cast<unsigned>(c - '0');
    if (!octal) break;
  }
  if (!octal || mode > kAllBits) {
    return bad(why, "not a file mode", "", "write octal permissions such as 0600, 0660 or 0666");
  }
  if ((mode & kOwnerBits) != kOwnerBits) {
    return bad(why, "too strict", "", "the owner must be able to read and write (0600)");
  }
  // It names no file, but it would let others into a socket of a privileged program.
  if (secure) return Verdict::kIgnored;
  config.socket_mode = mode;
  return Verdict::kOk;
}

void render_socket_mode(const Config& config, TextWriter& out) noexcept {
  out.put_uint(config.socket_mode, 8, 4);
}

// ---- MEMLIMIT_ADAPTERS, MEMLIMIT_PLUGINS

Verdict parse_adapters(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  AdapterSetting adapters;
  if (text == "auto" || text == "none") {
    adapters.kind = text == "auto" ? AdapterKind::kAuto : AdapterKind::kNone;
    config.adapters = adapters;
    return Verdict::kOk;
  }
  if (text == "off") return bad(why, "not a list of adapters", "none", "");
  adapters.kind = AdapterKind::kList;
  TextWriter names(adapters.names, sizeof adapters.names);
  char previous = ',';
  for (const char c : text) {
    const bool letter = c >= 'a' && c <= 'z';
    const bool inner = previous != ',' && (is_digit(c) || c == '_' || c == '-' || c == ',');
    if (!letter && !inner) {
      return bad(why, "not a list of adapters", "",
                 "write auto, none, or lower-case names with commas between (cpython,sqlite)");
    }
    names.put(c);
    previous = c;
  }
  if (previous == ',') return bad(why, "not a list of adapters", "", "it ends in a comma");
  if (names.truncated()) {
    return bad(why, "too long", "", "a list of adapters may have 255 bytes");
  }
  config.adapters = adapters;
  return Verdict::kOk;
}

void render_adapters(const Config& config, TextWriter& out) noexcept {
  switch (config.adapters.kind) {
    case AdapterKind::kAuto:
      out.put("auto");
      break;
    case AdapterKind::kNone:
      out.put("none");
      break;
    case AdapterKind::kList:
      out.put(config.adapters.names);
      break;
  }
}

Verdict parse_plugins(std::string_view text, bool secure, Config& config,
                      TextWriter& why) noexcept {
  if (text == "none") {
    config.plugins[0] = '\0';
    return Verdict::kOk;
  }
  if (text == "off") return bad(why, "not a list of paths", "none", "");
  if (secure) return Verdict::kIgnored;
  // Checked before anything is written: a bad value leaves the field as it was.
  if (text.size() >= Config::kPluginsCap) {
    return bad(why, "too long", "", "the paths together may have 4095 bytes");
  }
  for (std::string_view rest = text;;) {
    const size_t colon = rest.find(':');
    const std::string_view path = rest.substr(0, colon);
    // dlopen searches for a name without '/' wherever the loader looks: say where it is.
    if (path.find('/') == std::string_view::npos) {
      return bad(why, "not a list of paths", "",
                 "write paths of shared objects, each with a /, with colons between");
    }
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  TextWriter(config.plugins, sizeof config.plugins).put(text);
  return Verdict::kOk;
}

void render_plugins(const Config& config, TextWriter& out) noexcept {
  out.put(config.plugins[0] == '\0' ? "none" : config.plugins);
}

// ---- MEMLIMIT_SIGNAL

struct SignalName {
  std::string_view name;
  int number;
};

constexpr SignalName kSignals[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},       {"QUIT", SIGQUIT}, {"ILL", SIGILL},
    {"TRAP", SIGTRAP}, {"ABRT", SIGABRT},     {"BUS", SIGBUS},   {"FPE", SIGFPE},
    {"KILL", SIGKILL}, {"USR1", SIGUSR1},     {"SEGV", SIGSEGV}, {"USR2", SIGUSR2},
    {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},     {"TERM", SIGTERM}, {"CHLD", SIGCHLD},
    {"CONT", SIGCONT}, {"STOP", SIGSTOP},     {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU}, {"URG", SIGURG},       {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
    {"PROF", SIGPROF}, {"WINCH", SIGWINCH},   {"IO", SIGIO},     {"PWR", SIGPWR},
    {"SYS", SIGSYS},   {"VTALRM", SIGVTALRM}, {"POLL", SIGPOLL},
};

/** A number, or a name with or without SIG; 0 when it is neither. */
int read_signal(std::string_view text) noexcept {
  if (const auto number = read_number(text, SIGRTMAX)) return static_cast<int>(*number);
  if (text.substr(0, 3) == "SIG") text.remove_prefix(3);
  for (const SignalName& signal : kSignals) {
    if (text == signal.name) return signal.number;
  }
  const int first = SIGRTMIN, last = SIGRTMAX;
  if (text == "RTMIN") return first;
  if (text == "RTMAX") return last;
  const std::string_view base = text.substr(0, 6);
  if (base != "RTMIN+" && base != "RTMAX-") return 0;
  const auto offset = read_number(text.substr(6), last - first);
  if (!offset) return 0;
  const int away = static_cast<int>(*offset);
  return base == "RTMIN+" ? first + away : last - away;
}

Verdict parse_signal(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  if (text == "none" || text == "off") {
    config.signal_number = 0;
    return Verdict::kOk;
  }
  const int number = read_signal(text);
  switch (number) {
    case 0: {
      // "sigusr1", "Usr1": the name in capitals is the guess.
      char upper[16];
      TextWriter guess(upper, sizeof upper);
      for (const char c : text) guess.put(c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c);
      const bool known = !guess.truncated() && read_signal(guess.view()) != 0;
      return bad(why, "not a signal", known ? guess.view() : "",
                 "write a name (SIGUSR1, USR1, RTMIN+2), a number, or none");
    }
    case SIGKILL:
    case SIGSTOP:
      return bad(why, "a signal that no program can handle", "", "use SIGUSR1, say");
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGSEGV:
    case SIGSYS:
      return bad(why, "a signal that reports a fault", "", "use SIGUSR1, say");
    default:
      if (number > SIGSYS && number < SIGRTMIN) {
        return bad(why, "a signal that the C library keeps for itself", "", "use SIGUSR1, say");
      }
      config.signal_number = number;
      return Verdict::kOk;
  }
}

void render_signal(const Config& config, TextWriter& out) noexcept {
  const int number = config.signal_number;
  if (number == 0) {
    out.put("none");
    return;
  }
  for (const SignalName& signal : kSignals) {
    if (number == signal.number) {
      out.put("SIG").put(signal.name);
      return;
    }
  }
  const int first = SIGRTMIN;
  if (number < first) {
    out.put_int(number);
    return;
  }
  out.put("SIGRTMIN");
  if (number > first) out.put('+').put_int(number - first);
}

// ---- MEMLIMIT_LOG, MEMLIMIT_REPORT

constexpr std::string_view kLevelNames[] = {"off", "error", "warn", "info", "debug"};

Verdict parse_log(std::string_view text, bool secure, Config& config, TextWriter& why) noexcept {
  constexpr std::string_view kForms =
      "write off, error, warn, info or debug, then :/path/of/a/file if not to standard error";
  const size_t colon = text.find(':');
  const std::string_view word = text.substr(0, colon);
  const bool has_path = colon != std::string_view::npos;
  const std::string_view path = has_path ? text.substr(colon + 1) : "";

  LogSetting log;
  log.asked = true;
  size_t level = 0;
  while (level < std::size(kLevelNames) && word != kLevelNames[level]) ++level;
  if (level == std::size(kLevelNames)) {
    if (word.find('/') != std::string_view::npos) {
      return bad(why, "a path without a level", "", "write info:/path/of/a/file");
    }
    std::string_view guess = nearest(word, kLevelNames, std::size(kLevelNames));
    if (one_of(word, {"none", "no", "quiet"})) guess = "off";
    if (word == "warning") guess = "warn";
    if (one_of(word, {"trace", "verbose", "all"})) guess = "debug";
    return bad(why, "not a log level", guess, kForms);
  }
  log.level = static_cast<LogLevel>(level);
  if (has_path) {
    if (path.empty()) return bad(why, "without a path after the colon", "", kForms);
    if (secure) return Verdict::kIgnored;
    TextWriter out(log.path, sizeof log.path);
    if (!put_absolute(out, path, false)) return bad(why, "a relative path", "", kNoDirectory);
    if (out.truncated()) {
      return bad(why, "too long", "", "the whole path of the log file may have 1023 bytes");
    }
  }
  config.log = log;
  return Verdict::kOk;
}

void render_log(const Config& config, TextWriter& out) noexcept {
  out.put(kLevelNames[static_cast<size_t>(config.log.level)]);
  if (config.log.path[0] != '\0') out.put(':').put(config.log.path);
}

Verdict parse_report(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  constexpr std::string_view kForms = "write whole seconds from 1 to 86400, or off";
  if (text == "off") {
    config.report_seconds = 0;
    return Verdict::kOk;
  }
  std::string_view digits = text;
  take_suffix(digits, "s");
  const auto seconds = read_number(digits, INT64_MAX);
  if (!seconds) return bad(why, "not a number of seconds", nearest(text, {"off"}), kForms);
  if (*seconds > kMaxReportSeconds) return bad(why, "too long", "", kForms);
  config.report_seconds = *seconds;
  return Verdict::kOk;
}

void render_report(const Config& config, TextWriter& out) noexcept {
  if (config.report_seconds == 0) {
    out.put("off");
  } else {
    out.put_int(config.report_seconds);
  }
}

// ---- MEMLIMIT_PRESSURE, MEMLIMIT_STRICT

std::optional<bool> read_flag(std::string_view text) noexcept {
  if (one_of(text, {"on", "1", "yes", "true"})) return true;
  if (one_of(text, {"off", "0", "no", "false"})) return false;
  return std::nullopt;
}

Verdict parse_pressure(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  const auto flag = read_flag(text);
  if (!flag) {
    return bad(why, "neither on nor off", nearest(text, {"on", "off", "yes", "true", "false"}),
               "write on or off");
  }
  config.pressure = *flag;
  return Verdict::kOk;
}
void render_pressure(const Config& config, TextWriter& out) noexcept {
  out.put(config.pressure ? "on" : "off");
}

Verdict parse_strict(std::string_view text, bool secure, Config& config, TextWriter& why) noexcept {
  // A privileged program that ended with 0 would look as if it had done its work.
  if (secure && text == "check") return Verdict::kIgnored;
  const auto flag = text == "check" ? true : read_flag(text);
  if (!flag) {
    return bad(why, "none of on, off and check",
               nearest(text, {"on", "off", "yes", "true", "false", "check"}),
               "write on, off or check");
  }
  config.strict = *flag;
  config.check = text == "check";
  return Verdict::kOk;
}
void render_strict(const Config& config, TextWriter& out) noexcept {
  out.put(config.check ? "check" : config.strict ? "on" : "off");
}

// ---- MEMLIMIT_ASSIST

Verdict parse_assist(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  constexpr std::string_view kForms = "write milliseconds up to 1000 (2ms), 500us, or off";
  if (text == "off") {
    config.assist_ns = 0;
    return Verdict::kOk;
  }
  std::string_view digits = text;
  int64_t unit_ns = 1'000'000;
  if (take_suffix(digits, "us")) {
    unit_ns = 1000;
  } else {
    take_suffix(digits, "ms");
  }
  const auto count = read_number(digits, INT64_MAX);
  if (!count) return bad(why, "not a duration", nearest(text, {"off"}), kForms);
  if (*count > kMaxAssistNs / unit_ns) return bad(why, "too long", "", kForms);
  config.assist_ns = *count * unit_ns;
  return Verdict::kOk;
}

void render_assist(const Config& config, TextWriter& out) noexcept {
  constexpr int64_t kNsPerUs = 1000, kNsPerMs = 1'000'000;
  if (config.assist_ns == 0) {
    out.put("off");
  } else if (config.assist_ns % kNsPerMs == 0) {
    out.put_int(config.assist_ns / kNsPerMs).put("ms");
  } else {
    out.put_int(config.assist_ns / kNsPerUs).put("us");
  }
}

}  // namespace

Verdict parse_value(Option option, std::string_view text, bool secure, Config& config,
                    TextWriter& why) noexcept {
  switch (option) {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) \
  case Option::id:                                                       \
    return parse_##kind(text, secure, config, why);
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
  }
  return Verdict::kBad;
}

void render_value(const Config& config, Option option, TextWriter& out) noexcept {
  switch (option) {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) \
  case Option::id:                                                       \
    return render_##kind(config, out);
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
  }
}

bool parse_limit(std::string_view text, LimitSetting* out, char* why, size_t why_cap) noexcept {
  TextWriter writer(why, why_cap);
  LimitSetting limit;
  if (text.empty()) {
    bad(writer, "empty", "", kLimitForms);
    return false;
  }
  const Verdict verdict = parse_limit_value(text, limit, writer);
  if (verdict == Verdict::kBad) return false;
  *out = limit;
  return true;
}

size_t render_config(const Config& config, char* out, size_t cap) noexcept {
  constexpr size_t kNameWidth = 22, kValueWidth = 16, kSourceWidth = 12;
  TextWriter writer(out, cap);
  for (int index = 0; index < kOptionCount; ++index) {
    const auto option = static_cast<Option>(index);
    const OptionState& state = config.state(option);
    char value[Config::kPluginsCap];
    const size_t length = render_option(config, option, value, sizeof value);

    size_t start = writer.length();
    writer.put(option_name(option)).pad_to(start, kNameWidth);
    start = writer.length();
    writer.put_column({value, length}).pad_to(start, kValueWidth).put(' ');
    start = writer.length();
    writer.put(source_name(state.source)).pad_to(start, kSourceWidth).put(' ');
    const bool unused = state.source == Source::kInvalid || state.source == Source::kIgnored;
    if (unused) {
      writer.put_column(state.raw);
      if (state.raw_truncated) writer.put("...");
    } else {
      writer.put('-');
    }
    if (!option_has_effect(option)) writer.put(" no-effect-in-this-version");
    writer.put('\n');
  }
  return writer.length();
}

size_t render_option(const Config& config, Option option, char* out, size_t cap) noexcept {
  TextWriter writer(out, cap);
  render_value(config, option, writer);
  return writer.length();
}

}  // namespace memlimit
