/* See stats_server.h. */
#include "engine/stats_server.h"

#include <cstdio>
#include <cstring>

#include "engine/allocator.h"
#include "engine/figures.h"
#include "engine/limit_setting.h"
#include "observe/event_ring.h"
#include "observe/heap_text.h"
#include "observe/log.h"
#include "observe/stats_socket.h"
#include "observe/stats_text.h"
#include "settings/config_values.h"
#include "system/os.h"
#include "system/procfs.h"

namespace memlimit::stats_server {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

constinit const Config* config = nullptr;
constinit char xdg_runtime_dir[108] = {};
constinit StatsSocket stats_socket{};

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

/* Who is refused may come again at once: what it can fill the log with is a line a second. */
void note_refusal(void*, const Peer& peer) noexcept {
  static constinit RateLimiter once_a_second{kNsPerSecond};
  if (once_a_second.allow(os::monotonic_ns())) emit(EventKind::kSocketRefused, peer.uid);
}

void open() noexcept {
  if (config->socket.kind == SocketKind::kOff) return;
  const SocketPlace place{config->socket.text, xdg_runtime_dir, config->socket_mode};
  const SocketContent content{nullptr, render, set_limit, note_refusal};
  char error[256];
  const int result = stats_socket.open(place, content, error, sizeof error);
  emit(result == 0 ? EventKind::kSocketOpened : EventKind::kSocketFailed, -result);
  if (result != 0) process_log().write(LogLevel::kWarn, error);
}

void serve(const service::Turn& turn) noexcept {
  if (turn.ready == service::Turn::Ready::kYes && !stats_socket.is_intact()) {
    stats_socket.abandon();
    open();
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

bool has_subscribers() noexcept { return stats_socket.has_subscribers(); }

void publish_event(std::string_view line) noexcept { stats_socket.publish_event(line); }

constinit const service::Task kTask{
    .begin = open,
    .run = serve,
    .due_ns = []() noexcept { return stats_socket.next_deadline_ns(); },
    .wait_fd = []() noexcept { return stats_socket.wait_fd(); },
    .end = []() noexcept { stats_socket.close(); },
    .cut_off = []() noexcept { stats_socket.remove_path(); },
};

constinit const fork::Part kForkPart{
    .name = "socket",
    .reset = []() noexcept { stats_socket.forget_after_fork(); },
};

}  // namespace memlimit::stats_server
