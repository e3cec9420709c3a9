/* See group_watch.h. */
#include "engine/group_watch.h"

#include "engine/group_voice.h"
#include "engine/hooks.h"
#include "engine/limit_setting.h"
#include "engine/look.h"
#include "engine/paced.h"
#include "engine/pressure.h"
#include "engine/program_work.h"
#include "observe/log.h"
#include "pacing/idle_interval.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::group_watch {
namespace {

/* How old the container's limit may be while anything moves; reading it takes some 100 microseconds. And how old a look may
 * be when the thread is awake anyway, or the program works. */
constexpr int64_t kRefreshNs = 5'000'000'000;

constexpr size_t kLineCap = 1280; /* of a line with two paths */

/* Of the service thread; INT64_MAX: nothing is followed. */
constinit MEMLIMIT_FORK_DATA GroupWatch watch{};
constinit MEMLIMIT_FORK_DATA int64_t look_due_ns = INT64_MAX;
constinit MEMLIMIT_FORK_DATA int64_t looked_ns = 0;
constinit MEMLIMIT_FORK_DATA int64_t refreshed_ns = 0;

bool has_hooks() noexcept {
  return hooks::count(MEMLIMIT_ASYNC) + hooks::count(MEMLIMIT_POLL) +
             hooks::count(MEMLIMIT_INLINE) >
         0;
}

GroupSight sight() noexcept {
  const MemoryGroup& group = limit_setting::container();
  const bool counts = paced::mode() == AccountMode::kCgroup;
  return {counts ? group.last_working_set_bytes() : -1, pressure::limit_bytes(),
          group.container_bytes(), pressure::level(), has_hooks() ? paced::own_bytes() : 0};
}

/* Whether the limit's file would be older than that when the next look comes. */
bool refresh_is_due(int64_t now_ns) noexcept {
  return look_due_ns == INT64_MAX ||
         now_ns + kGrowthOfInterval * watch.interval_ns - refreshed_ns >= kRefreshNs;
}

void look(int64_t now_ns) noexcept {
  if (refresh_is_due(now_ns)) {
    limit_setting::refresh();
    refreshed_ns = now_ns;
  }
  // A program that sleeps in a container that others fill gives its part, too.
  look::at_group();
  const int64_t interval_ns = next_look_ns(watch, sight());
  looked_ns = now_ns;
  look_due_ns = now_ns + interval_ns;
  program_work::wake_from(interval_ns > kRefreshNs ? now_ns + kRefreshNs : INT64_MAX);
}

void forget() noexcept {
  if (look_due_ns == INT64_MAX) return;
  watch = {};
  look_due_ns = INT64_MAX;
  program_work::wake_from(INT64_MAX);
}

void tell_news() noexcept {
  char line[kLineCap];
  bool problem;
  if (!limit_setting::take_news(line, sizeof line, &problem)) return;
  if (problem) {
    process_log().problem(line);
  } else {
    process_log().write(LogLevel::kInfo, line);
  }
}

void follow(const service::Turn& turn) noexcept {
  if (!limit_setting::follows_container()) {
    forget();
  } else if (turn.now_ns >= look_due_ns || look_due_ns == INT64_MAX ||
             turn.now_ns - looked_ns >= kRefreshNs) {
    // The last: whoever woke the thread, a client of the socket for one, gets figures that are not old.
    look(turn.now_ns);
  }
  tell_news();
  group_voice::rest(turn.now_ns);
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept { forget(); }

}  // namespace

constinit const service::Task kTask{
    .run = follow,
    .due_ns = []() noexcept { return look_due_ns; },
};

constinit const fork::Part kForkPart{.name = "group watch", .reset = reset_after_fork};

}  // namespace memlimit::group_watch
