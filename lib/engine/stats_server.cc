/* See stats_server.h. */
#include "engine/stats_server.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "engine/allocator.h"
#include "engine/figures.h"
#include "engine/limit_setting.h"
#include "engine/look.h"
#include "engine/profile_setting.h"
#include "observe/event_ring.h"
#include "observe/heap_text.h"
#include "observe/log.h"
#include "observe/stats_socket.h"
#include "observe/stats_text.h"
#include "profile/profile_text.h"
#include "profile/profiler.h"
#include "settings/config_values.h"
#include "settings/environment.h"
#include "system/attributes.h"
#include "system/low_numbers.h"
#include "system/os.h"
#include "system/procfs.h"
#include "system/text.h"

namespace memlimit::stats_server {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

/* How often a path by name is looked at that another process has, or had. */
constexpr int64_t kLookAtPathNs = 5 * kNsPerSecond;

constexpr int64_t kAskAgainNs = kNsPerSecond / 10;

constinit const Config* config = nullptr;
constinit char xdg_runtime_dir[108] = {};
constinit MEMLIMIT_FORK_DATA StatsSocket stats_socket{};
constinit MEMLIMIT_FORK_DATA bool forked =
    false; /* this process is a copy of the program that was started */
/* Service thread. The path is another's of the family, of which nobody was told: nothing is lost while this process is
 * small. */
constinit MEMLIMIT_FORK_DATA bool untold = false;
constinit int64_t look_at_path_ns = 0;
constinit int64_t open_again_ns = INT64_MAX; /* the socket was lost */

/* The figures that are known here alone. */
void add_own_figures(memlimit_stats* figures) noexcept {
  figures->events_dropped = static_cast<int64_t>(process_events().dropped());
  figures->socket_requests = stats_socket.requests();
  figures->socket_refused = stats_socket.refused();
}

size_t render_heap(char* buffer, size_t cap) noexcept {
  HeapText text(buffer, cap);
  allocator().rows(text.visitor());
  return text.finish();
}

size_t render(void*, StatsFile file, char* buffer, size_t cap) noexcept {
  if (file == StatsFile::kConfig) return render_config(*config, buffer, cap);
  if (file == StatsFile::kHeap) return render_heap(buffer, cap);
  if (file == StatsFile::kProfile)
    return profile::render_profile(profile::sites(), profile::labels(), "/proc/self/maps", buffer,
                                   cap);
  if (shows_figures_only(file)) {
    memlimit_stats figures{};
    figures::fill(&figures, figures::kRssAgeNs);
    add_own_figures(&figures);
    return render_figures(file, figures, buffer, cap);
  }
  Snapshot snapshot;
  figures::fill(&snapshot);
  procfs::process_name(snapshot.name, sizeof snapshot.name);
  add_own_figures(&snapshot.figures);
  snapshot.limit_invalid =
      config->state(Option::kLimit).source == Source::kInvalid && snapshot.figures.limit == 0;
  return render_file(file, snapshot, buffer, cap);
}

bool set_limit(void*, std::string_view text, const Peer&, char* error, size_t cap) noexcept {
  LimitSetting setting;
  if (!parse_limit(text, &setting, error, cap)) return false;
  limit_setting::apply(setting, LimitSource::kSocket);
  return true;
}

bool set_profile(void*, std::string_view text, char* answer, size_t cap) noexcept {
  int64_t interval_bytes = 0;
  if (!parse_profile(text, &interval_bytes, answer, cap) ||
      !profile_setting::apply(interval_bytes, answer, cap))
    return false;
  TextWriter out(answer, cap);
  if (interval_bytes == 0) {
    out.put("off\n");
  } else {
    out.put_int(interval_bytes).put('\n');
  }
  return true;
}

/* Who is refused may come again at once: what it can fill the log with is a line a second. */
void note_refusal(void*, const Peer& peer) noexcept {
  static constinit RateLimiter once_a_second{kNsPerSecond};
  if (once_a_second.allow(os::monotonic_ns())) emit(EventKind::kSocketRefused, peer.uid);
}

bool is_named() noexcept {
  return config->socket.kind == SocketKind::kPath || config->socket.kind == SocketKind::kDirectory;
}

SocketPlace place() noexcept {
  SocketPlace place{config->socket.text, xdg_runtime_dir, config->socket_mode};
  place.forked = forked;
  return place;
}

enum class Opened : bool { kFirst, kAgain };

/* Who asked for a socket by name waits for it. It is not said of the copies that a program makes of itself, nor when the
 * program has closed what was open and left no descriptor; nor of helpers as long as they are small: another of the
 * family has the path. */
void tell_failure(Opened opened, int error, const char* text) noexcept {
  untold = error == -EALREADY && !forked && !look::wants_service();
  if (forked || untold || opened == Opened::kAgain) {
    process_log().write(LogLevel::kInfo, text);
  } else if (is_named()) {
    process_log().problem(text);
  } else {
    process_log().write(LogLevel::kWarn, text);
  }
}

void open(Opened opened) noexcept {
  open_again_ns = INT64_MAX;
  if (config->socket.kind == SocketKind::kOff) return;
  const SocketContent content{nullptr, render, set_limit, note_refusal, set_profile};
  char error[320];
  const int result = stats_socket.open(place(), content, error, sizeof error);
  emit(result == 0 ? EventKind::kSocketOpened : EventKind::kSocketFailed, -result);
  look_at_path_ns = os::monotonic_ns() + kLookAtPathNs;
  untold = false;
  if (result != 0) tell_failure(opened, result, error);
}

/* A path that was another process's may be free now; one that was taken over from this wrapper, too, when the program
 * behind it has ended. */
void look_at_path(int64_t now_ns) noexcept {
  if (!is_named() || now_ns < look_at_path_ns) return;
  look_at_path_ns = now_ns + kLookAtPathNs;
  const bool lost = stats_socket.is_open();
  if (lost ? !stats_socket.is_idle() : !untold && stats_socket.holder_pid() == 0) return;
  if (named_place_is_free(place(), stats_socket.holder_pid())) {
    stats_socket.abandon();
    open(Opened::kAgain);
  } else if (untold && look::wants_service()) {
    open(Opened::kFirst);
  }
}

void serve(const service::Turn& turn) noexcept {
  look_at_path(turn.now_ns);
  if (turn.ready == service::Turn::Ready::kYes && !stats_socket.is_intact()) {
    stats_socket.abandon();
    open_again_ns = turn.now_ns;
  }
  if (turn.now_ns >= open_again_ns) {
    // Not at a number that the program is about to use.
    const bool now = low_numbers::may_take();
    open_again_ns = now ? INT64_MAX : turn.now_ns + kAskAgainNs;
    if (now) open(Opened::kAgain);
  }
  const bool due = turn.now_ns >= stats_socket.next_deadline_ns();
  if (turn.ready != service::Turn::Ready::kNo || due) stats_socket.handle(turn.now_ns);
}

static_assert(StatsSocket::kNever == INT64_MAX, "as service::Task::due_ns has it");

}  // namespace

void configure(const Config& settings, const char* xdg) noexcept {
  config = &settings;
  // One that does not fit names no place for a socket either: sun_path is as long.
  if (xdg != nullptr && strlen(xdg) < sizeof xdg_runtime_dir) {
    snprintf(xdg_runtime_dir, sizeof xdg_runtime_dir, "%s", xdg);
  }
}

bool can_open(const Config& settings) noexcept {
  if (settings.socket.kind == SocketKind::kOff || settings.socket.kind == SocketKind::kDefault) {
    return true;
  }
  char error[ConfigError::kCap];
  const SocketPlace named{settings.socket.text, {}, settings.socket_mode};
  if (check_stats_socket(named, error, sizeof error) == 0) return true;
  char line[ConfigError::kCap + 32];
  TextWriter(line, sizeof line).put(error).put(". The program is not started");
  write_fatal(line);
  return false;
}

bool has_subscribers() noexcept { return stats_socket.has_subscribers(); }

void publish_event(std::string_view line) noexcept { stats_socket.publish_event(line); }

namespace {

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  stats_socket.forget_after_fork();
  forked = true;
  untold = false;
}

}  // namespace

constinit const service::Task kTask{
    .begin = []() noexcept { open(Opened::kFirst); },
    .run = serve,
    .due_ns =
        []() noexcept {
          const int64_t next = std::min(stats_socket.next_deadline_ns(), open_again_ns);
          return stats_socket.holder_pid() != 0 ? std::min(next, look_at_path_ns) : next;
        },
    .wait_fd = []() noexcept { return stats_socket.wait_fd(); },
    .end = []() noexcept { stats_socket.close(); },
    .cut_off = []() noexcept { stats_socket.remove_path(); },
};

constinit const fork::Part kForkPart{.name = "socket", .reset = reset_after_fork};

}  // namespace memlimit::stats_server
