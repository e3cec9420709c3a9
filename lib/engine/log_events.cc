/* See log_events.h. */
#include "engine/log_events.h"

#include <cstdio>

#include <unistd.h>

#include "engine/figures.h"
#include "engine/group_voice.h"
#include "engine/hooks.h"
#include "engine/participants.h"
#include "engine/stats_server.h"
#include "observe/event_ring.h"
#include "observe/log.h"
#include "profile/first_site.h"
#include "profile/profiler.h"
#include "settings/units.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::log_events {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

/* Most events wake nobody. Who listens hears of them this late at most; nobody else needs the thread for that, and what
 * the log says by default comes with a wake-up of its own. */
constexpr int64_t kHeardNs = 5 * kNsPerSecond;

constinit const Config* config = nullptr;
constinit MEMLIMIT_FORK_DATA bool is_child = false;
constinit MEMLIMIT_FORK_DATA int64_t report_due_ns = INT64_MAX; /* service thread */
constinit int64_t told_ns = 0;                                  /* service thread */

/* On the service thread only. */
const char* hook_name(int64_t slot) noexcept {
  static constinit char name[sizeof(HookRow::name)] = {};
  return hooks::name_of(static_cast<int>(slot), name, sizeof name) ? name : nullptr;
}

int64_t first_site(TextWriter& out) noexcept {
  return profile::put_first_site(out, profile::sites(), profile::labels(), "/proc/self/maps");
}

constexpr EventNames kNames{hook_name,
                            participants::name_of,
                            participants::left_out,
                            group_voice::own_part,
                            group_voice::may_say,
                            first_site};

void tell_events() noexcept {
  Event event;
  while (process_events().pop(&event)) {
    char line[320];
    process_log().event(event, kNames);
    if (!stats_server::has_subscribers()) continue;
    const size_t length = format_event(event, kNames, line, sizeof line);
    stats_server::publish_event({line, length});
  }
}

/* "heap 301 MiB / limit 512 MiB, level moderate". */
void write_report() noexcept {
  memlimit_stats figures{};
  figures::fill(&figures);
  char heap[32], limit[32], rss[32], line[160];
  format_size(figures.heap_alloc, heap, sizeof heap);
  format_size(figures.rss_anon, rss, sizeof rss);
  format_size(figures.limit, limit, sizeof limit);
  const auto level = level_name(figures.level);
  snprintf(line, sizeof line, "heap %s / limit %s, level %.*s, rss %s, rounds %lld", heap,
           figures.limit > 0 ? limit : "off", static_cast<int>(level.size()), level.data(), rss,
           static_cast<long long>(figures.rounds));
  process_log().report(line);
}

void set_report_timer() noexcept {
  const int64_t interval_ns = config->report_seconds * kNsPerSecond;
  report_due_ns = interval_ns > 0 ? os::monotonic_ns() + interval_ns : INT64_MAX;
}

void begin() noexcept {
  // Not in the child at once: most of them end, or become another program, before there is anything to tell.
  if (is_child) process_log().reset_after_fork();
  process_log().open(*config);
  if (is_child) emit(EventKind::kForked, getppid(), os::process_id());
  is_child = false;
  set_report_timer();
}

void report_if_due(const service::Turn& turn) noexcept {
  if (turn.now_ns < report_due_ns) return;
  write_report();
  set_report_timer();
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  forget_events_after_fork();
  is_child = true;
  report_due_ns = INT64_MAX;
}

}  // namespace

void configure(const Config& settings) noexcept { config = &settings; }

constinit const service::Task kReportTask{
    .begin = begin,
    .run = report_if_due,
    .due_ns = []() noexcept { return report_due_ns; },
};

constinit const service::Task kEventTask{
    .run =
        [](const service::Turn& turn) noexcept {
          told_ns = turn.now_ns;
          tell_events();
        },
    .due_ns =
        []() noexcept {
          const bool heard =
              config->log.level >= LogLevel::kInfo || stats_server::has_subscribers();
          return heard ? told_ns + kHeardNs : INT64_MAX;
        },
    .end = tell_events,
};

constinit const fork::Part kForkPart{.name = "events", .reset = reset_after_fork};

}  // namespace memlimit::log_events
