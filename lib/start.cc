/* See start.h. */
#include "start.h"

#include "engine/account.h"
#include "engine/assist.h"
#include "engine/configure.h"
#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/figures.h"
#include "engine/footprint.h"
#include "engine/footprint_watch.h"
#include "engine/group_voice.h"
#include "engine/group_watch.h"
#include "engine/hooks.h"
#include "engine/limit_setting.h"
#include "engine/log_events.h"
#include "engine/look.h"
#include "engine/paced.h"
#include "engine/plugins.h"
#include "engine/poll_pass.h"
#include "engine/poller.h"
#include "engine/profile_setting.h"
#include "engine/program_work.h"
#include "engine/purge.h"
#include "engine/requests.h"
#include "engine/rest_watch.h"
#include "engine/service.h"
#include "engine/service_rounds.h"
#include "engine/stats_server.h"
#include "profile/profiler.h"
#include "runtimes/notices.h"
#include "runtimes/sqlite.h"
#include "system/attributes.h"
#include "system/thread.h"

namespace memlimit {
namespace {

/* Who was kept out of something by a fork finds it open again. */
void open_gate() noexcept {
  if (fork::gate().open()) service::wake();
}

using ResetAllocator = bool() noexcept;
constinit MEMLIMIT_FORK_DATA ResetAllocator* reset_heap = nullptr;

MEMLIMIT_CHILD_CODE void reset_allocator() noexcept {
  if (reset_heap()) account::count_anew();
}

/* All that fork() has to know. First the service thread goes, which the child does not have and may be anywhere; then the gate,
 * since whoever is inside may take locks; then the locks, in the order of lock_rank.h; then what only begins anew in the child.
 * The allocator and the counts come first there: the others may look at them. */
constexpr fork::Part kGate{"gate", fork::close_gate, open_gate};
constexpr fork::Part kAllocator{.name = "allocator", .reset = reset_allocator};
constexpr const fork::Part* kForkParts[] = {
    &service::kAsidePart,
    &kGate,
    &kAllocator,
    &account::kForkPart,
    &limit_setting::kForkPart,
    &service::kForkPart,
    &decision::kForkPart,
    &hooks::kForkPart,
    &runtimes::kForkPart,
    &runtimes::sqlite::kForkPart,
    &counters::kForkPart,
    &paced::kForkPart,
    &footprint::kForkPart,
    &requests::kForkPart,
    &poller::kForkPart,
    &poll_pass::kForkPart,
    &figures::kForkPart,
    &look::kForkPart,
    &assist::kForkPart,
    &purge::kForkPart,
    &rest_watch::kForkPart,
    &runtimes::kNoticesForkPart,
    &program_work::kForkPart,
    &group_watch::kForkPart,
    &group_voice::kForkPart,
    &stats_server::kForkPart,
    &log_events::kForkPart,
};

static_assert(sizeof kForkParts / sizeof kForkParts[0] <= fork::kMaxParts);

/* In the order of a turn: first what frees memory, last what tells of it. The log is opened before others write to
 * it. */
constexpr const service::Task* kTasks[] = {
    &log_events::kReportTask,  //
    &runtimes::kTask,          //
    &runtimes::sqlite::kTask,  //
    &service_rounds::kLookTask, &runtimes::kReclaimTask,
    &service_rounds::kPassTask, &service_rounds::kPurgeTask,
    &footprint_watch::kTask,  //
    &rest_watch::kTask,       //
    &group_watch::kTask,      //
    &stats_server::kTask,     //
    &log_events::kEventTask,
};
static_assert(sizeof kTasks / sizeof kTasks[0] <= service::kMaxTasks);

/* Who names a place for the socket, or asks for more than warnings, is waiting for them: the thread
 * comes soon instead of when memory gets interesting. */
bool awaits_service(const Config& config) noexcept {
  return config.socket.kind == SocketKind::kPath || config.socket.kind == SocketKind::kDirectory ||
         config.report_seconds > 0 || config.log.level >= LogLevel::kInfo;
}

}  // namespace

void register_fork_handlers(bool (*allocator)() noexcept) noexcept {
  reset_heap = allocator;
  fork::register_handlers(kForkParts, sizeof kForkParts / sizeof kForkParts[0]);
}

int start(const Config& config, const Interposition& interposition,
          const char* xdg_runtime_dir) noexcept {
  os::learn_thread_storage();
  for (const service::Task* task : kTasks) service::add_task(*task);
  log_events::configure(config);
  stats_server::configure(config, xdg_runtime_dir);
  engine::configure(config, interposition.allocator);
  runtimes::configure(config, interposition.loader_calls);
  runtimes::sqlite::configure(config);
  runtimes::configure_notices(config);
  if (config.strict && !stats_server::can_open(config)) return 1;
  profile::follow_loads(*interposition.loader_calls.count);
  limit_setting::apply_at_start(config);
  profile_setting::apply_at_start(config);
  const int failed_plugins = load_plugins(config);
  if (failed_plugins > 0 && config.strict) return failed_plugins;
  if (awaits_service(config)) service::await();
  return failed_plugins;
}

}  // namespace memlimit
