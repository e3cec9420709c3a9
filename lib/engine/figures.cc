/* See figures.h. */
#include "engine/figures.h"

#include <algorithm>
#include <cstring>

#include "engine/account.h"
#include "engine/allocator.h"
#include "engine/assist.h"
#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/footprint.h"
#include "engine/hooks.h"
#include "engine/paced.h"
#include "engine/participants.h"
#include "engine/pressure.h"
#include "engine/profile_setting.h"
#include "engine/purge.h"
#include "profile/profiler.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::figures {
namespace {

constinit MEMLIMIT_FORK_DATA int64_t start_ns = 0;
constinit MEMLIMIT_FORK_DATA int64_t fork_ns = 0; /* the latest, before it */
constinit int64_t invalid_settings = 0;

void fill_held(memlimit_stats& out) noexcept {
  const AllocatorHeld held = allocator().held();
  out.heap_cached = held.cached;
  out.heap_free = held.free;
  out.heap_large = held.large;
  out.heap_huge = held.huge;
  out.heap_kept = held.kept;
  out.heap_lost = held.lost;
  out.heap_spans = held.spans;
  out.heap_regions = held.regions;
  out.heap_records = held.records;
}

}  // namespace

void configure(int64_t invalid) noexcept {
  start_ns = os::monotonic_ns();
  invalid_settings = invalid;
}

void fill(memlimit_stats* figures, int64_t max_age_ns) noexcept {
  const int64_t rss_anon = footprint::rss_anon_bytes(max_age_ns);
  const account::Totals totals = account::totals();
  const int64_t heap = std::max<int64_t>(totals.heap_bytes(), 0);
  account::note_peak(heap);
  memlimit_stats& out = *figures;
  out.size = sizeof out;
  out.limit = pressure::limit_bytes();
  out.heap_alloc = heap;
  out.heap_peak = account::heap_peak_bytes();
  out.total_alloc = totals.allocated_bytes - totals.charged_in_bytes;
  out.total_freed = totals.freed_bytes - totals.charged_out_bytes;
  out.charged = totals.charged_bytes;
  out.mapped = allocator().mapped_bytes();
  out.rss_anon = rss_anon;
  out.cgroup_used = paced::group_bytes();
  const bool usage_only = paced::mode() == AccountMode::kHeap && !paced::footprint_over();
  const int64_t usage = totals.usage_bytes();
  out.paced = usage_only ? usage + paced::overhead_bytes() : std::max(usage, paced::bytes());
  out.headroom = out.limit > 0 ? out.limit - out.paced : 0;
  out.level = static_cast<int>(decision::level_of(out.paced));
  hooks::Sums sums = hooks::sums();
  sums += participants::sums();
  out.hook_calls = sums.calls;
  out.hook_skips = sums.skips;
  out.hook_ns = sums.ns;
  out.hook_overruns = sums.overruns;
  out.hooks_running = sums.running;
  out.hook_running_ns = sums.running_ns;
  const profile::Figures profiled = profile::figures();
  out.profile_interval = profile_setting::interval_bytes();
  out.profile_samples = profiled.samples;
  out.profile_sites = profiled.sites;
  out.profile_dropped = profiled.dropped_bytes;
  out.hooks = hooks::count(MEMLIMIT_ASYNC) + hooks::count(MEMLIMIT_POLL) +
              hooks::count(MEMLIMIT_INLINE) + participants::count();
  counters::fill(&out);
  assist::fill(&out);
  purge::fill(&out);
  out.madvise_calls = allocator().madvise_calls();
  out.held_idle = std::max<int64_t>(rss_anon - totals.usage_bytes(), 0);
  fill_held(out);
  out.threads = allocator().thread_count();
  out.quantum = account::quantum_bytes();
  out.publishes = static_cast<int64_t>(account::publish_count());
  out.invalid_settings = invalid_settings;
  out.uptime_ns = os::monotonic_ns() - start_ns;
  decision::fill(&out);
}

void fill(Snapshot* snapshot) noexcept {
  fill(&snapshot->figures, kRssAgeNs);
  decision::limit_source(snapshot->limit_source, sizeof snapshot->limit_source);
  snapshot->let_go_for_time = decision::let_go_for_time();
  participants::left_out(snapshot->left_out, sizeof snapshot->left_out);
  strncpy(snapshot->account, paced::mode_name(), sizeof snapshot->account - 1);
  snapshot->pid = os::process_id();
  counters::fill_histograms(snapshot);
  snapshot->assist_ns = assist::histogram();
  snapshot->hook_count = hooks::rows(snapshot->hooks, Snapshot::kMaxHooks);
  snapshot->hook_count += participants::rows(snapshot->hooks + snapshot->hook_count,
                                             Snapshot::kMaxHooks - snapshot->hook_count);
}

namespace {

/* The clock is read in the parent, where it costs no page fault. Who forks and forks writes nothing each time: a child is
 * younger than it says by that much. */
constexpr int64_t kForkGrainNs = 20'000'000;

MEMLIMIT_FORK_CODE void note_fork() noexcept {
  const int64_t now_ns = os::monotonic_ns();
  if (now_ns - fork_ns > kForkGrainNs) fork_ns = now_ns;
}
MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept { start_ns = fork_ns; }

}  // namespace

constinit const fork::Part kForkPart{
    .name = "figures", .hold = note_fork, .reset = reset_after_fork, .alone = true};

}  // namespace memlimit::figures
