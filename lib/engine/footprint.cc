/* See footprint.h. */
#include "engine/footprint.h"

#include <algorithm>
#include <atomic>

#include "engine/account.h"
#include "engine/paced.h"
#include "engine/participants.h"
#include "engine/pressure.h"
#include "engine/program_work.h"
#include "engine/service.h"
#include "observe/event_ring.h"
#include "pacing/purge_pacer.h"
#include "system/attributes.h"
#include "system/os.h"
#include "system/procfs.h"

namespace memlimit::footprint {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

/* The footprint is read once for this much that the program takes: 1/64 of the headroom, within these
 * bounds. A read costs 2 to 8 microseconds, touching a MiB for the first time a hundred. */
constexpr int64_t kFootprintEveryMinBytes = kMiB;
constexpr int64_t kFootprintEveryMaxBytes = 16 * kMiB;
constexpr int64_t kFootprintHeadroomDivisor = 64;

struct alignas(64) State {
  std::atomic<int64_t> due{0}; /* the clock at which to read it again */
  std::atomic<int64_t> rss_anon{0};
  std::atomic<int64_t> rss_read_ns{INT64_MIN / 2};
  std::atomic<bool> wakes_when_unseen{false};
};
constinit MEMLIMIT_FORK_DATA State state{};

void note(int64_t footprint) noexcept {
  const int64_t limit = pressure::limit_bytes();
  if (footprint < 0) return;
  const int64_t with_idle = paced::bytes_with_idle();
  if (limit == 0 || with_idle <= limit) {
    paced::set_footprint_over(false);
  } else if (paced::mode() == AccountMode::kCgroup && with_idle > limit + slack_bytes(limit)) {
    // Others share the room that is left: no time to try a purge first.
    is_over(limit);
  }
  if (state.wakes_when_unseen.load(std::memory_order_relaxed) && may_pass_unseen(touch_sight())) {
    wake_when_unseen(false);
    service::wake();
  }
}

/* When it is due stays: the child has its parent's pages and clock. Most children end before they have a MiB of their own, and
 * a reading at once is three system calls and two page faults for nothing. */
MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  state.rss_read_ns.store(INT64_MIN / 2, std::memory_order_relaxed);
  state.wakes_when_unseen.store(false, std::memory_order_relaxed);
}

}  // namespace

int64_t slack_bytes(int64_t limit) noexcept {
  return slack_for(limit, paced::room_above_bytes(limit));
}

void is_over(int64_t limit) noexcept {
  if (!paced::set_footprint_over(true)) return;
  emit(EventKind::kFootprint, paced::bytes_with_idle(), account::published_usage_bytes(), limit);
}

void read() noexcept {
  // A process too small for a service thread keeps no descriptor open either.
  note(paced::read(service::running()));
}

void read_if_due() noexcept {
  // What is given back moves it, too: idle pages go with it.
  const int64_t clock = pressure::clock_bytes() + account::published_freed_bytes();
  int64_t due = state.due.load(std::memory_order_relaxed);
  if (clock < due) return;
  const int64_t headroom = pressure::limit_bytes() - paced::bytes();
  const int64_t every = std::clamp(headroom / kFootprintHeadroomDivisor, kFootprintEveryMinBytes,
                                   kFootprintEveryMaxBytes);
  // One thread reads, the others go on with the last figure.
  if (state.due.compare_exchange_strong(due, clock + every, std::memory_order_relaxed)) {
    read();
    program_work::note();
  }
}

void due_sooner(int64_t bytes) noexcept { state.due.fetch_sub(bytes, std::memory_order_relaxed); }

TouchSight touch_sight() noexcept {
  TouchSight sight;
  sight.grows_unseen = participants::grows_unseen();
  if (paced::mode() == AccountMode::kHeap && !sight.grows_unseen) return sight;
  sight.footprint_bytes = paced::footprint_bytes();
  sight.untouched_bytes = paced::untouched_bytes();
  sight.limit_bytes = pressure::limit_bytes();
  sight.headroom_bytes = sight.limit_bytes - paced::bytes_with_idle();
  return sight;
}

void wake_when_unseen(bool wanted) noexcept {
  state.wakes_when_unseen.store(wanted, std::memory_order_relaxed);
}

/* RssAnon, read again when the last reading is older than that. It is footprint_bytes() summed more
 * exactly, at ten times the cost. */
int64_t rss_anon_bytes(int64_t max_age_ns) noexcept {
  const int64_t now_ns = os::monotonic_ns();
  if (now_ns - state.rss_read_ns.load(std::memory_order_relaxed) > max_age_ns) {
    const int64_t bytes = procfs::rss_anon_bytes();
    paced::note_footprint(bytes);
    note(bytes);
    state.rss_anon.store(std::max<int64_t>(bytes, 0), std::memory_order_relaxed);
    state.rss_read_ns.store(now_ns, std::memory_order_relaxed);
  }
  return state.rss_anon.load(std::memory_order_relaxed);
}

constinit const fork::Part kForkPart{.name = "footprint", .reset = reset_after_fork};

}  // namespace memlimit::footprint
