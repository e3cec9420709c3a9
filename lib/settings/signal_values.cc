/* MEMLIMIT_SIGNAL: a signal by its name or its number.
 *
 * Refuses the signals that no program can handle, that report a fault, or that the C library keeps for itself.
 */
#include "settings/value_kinds.h"

#include <csignal>

namespace memlimit::kinds {
namespace {

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

}  // namespace

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

}  // namespace memlimit::kinds
