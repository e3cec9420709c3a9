/* MEMLIMIT_SOCKET and its _MODE, _LOG, _PLUGINS: what names a file, or opens one to others.
 *
 * Answers for: a path is kept whole and absolute or is refused, and a set-user-ID program ignores all of them.
 * Refuses to open or to look at the file: that is for who uses it.
 */
#include "settings/value_kinds.h"

#include <climits>
#include <iterator>

#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "settings/spelling.h"
#include "system/os.h"

namespace memlimit::kinds {
namespace {

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

}  // namespace

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

Verdict parse_log(std::string_view text, bool secure, Config& config, TextWriter& why) noexcept {
  constexpr std::string_view kForms =
      "write off, error, warn, info or debug, then :/path/of/a/file if not to standard error";
  const size_t colon = text.find(':');
  const std::string_view word = text.substr(0, colon);
  const bool has_path = colon != std::string_view::npos;
  const std::string_view path = has_path ? text.substr(colon + 1) : "";

  LogSetting log;
  size_t level = 0;
  while (level < std::size(kLogLevelNames) && word != kLogLevelNames[level]) ++level;
  if (level == std::size(kLogLevelNames)) {
    if (word.find('/') != std::string_view::npos) {
      return bad(why, "a path without a level", "", "write info:/path/of/a/file");
    }
    std::string_view guess = nearest(word, kLogLevelNames, std::size(kLogLevelNames));
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
  out.put(kLogLevelNames[static_cast<size_t>(config.log.level)]);
  if (config.log.path[0] != '\0') out.put(':').put(config.log.path);
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

}  // namespace memlimit::kinds
