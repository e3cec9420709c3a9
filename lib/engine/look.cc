/* See look.h. */
#include "engine/look.h"

#include <algorithm>
#include <atomic>

#include "engine/account.h"
#include "engine/allocator.h"
#include "engine/assist.h"
#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/footprint.h"
#include "engine/paced.h"
#include "engine/participants.h"
#include "engine/pressure.h"
#include "engine/purge.h"
#include "engine/requests.h"
#include "engine/rest_watch.h"
#include "engine/round.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "observe/event_ring.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::look {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

/* A request this large does not go on when the lock is taken: its round must follow at once. */
constexpr int64_t kInsistBytes = kMiB;

/* A service thread is worth having from this usage on: 4 MiB or 1/16 of the limit. */
constexpr int64_t kServiceUsageBytes = 4 * kMiB;

/* What is left of the container when it is said that the kernel kills next, and how often that becomes an event. */
constexpr int64_t kLastRoomDivisor = 32;
constexpr int64_t kLastRoomEveryNs = 10'000'000'000;
constexpr int64_t kLastWordNs = 2'000'000;

constexpr int64_t kServiceLimitDivisor = 16;
constexpr int64_t kServiceFootprintDivisor = 4;

/* What the child of a fork began with: it is not to have a second thread for what its parent had. */
struct Inherited {
  int64_t usage_bytes = 0;
  int64_t own_bytes = 0;
};
constinit MEMLIMIT_FORK_DATA Inherited inherited{};

PacerInput sample_for_look() noexcept {
  const PacerInput input = decision::sample();
  if (input.limit_bytes > 0) counters::note_overshoot(input.paced_bytes - input.limit_bytes);
  return input;
}

/* A process that the kernel is about to kill can at least have said so. Told while there is room for a few more looks, and
 * only when nothing helps: a cache that is being emptied is no news. */
void announce_the_end(const decision::Begun& begun) noexcept {
  if (begun.level < Level::kCritical || !begun.in_vain) return;
  const int64_t room = paced::room_bytes();
  const int64_t container = paced::room_above_bytes(0);
  if (room < 0 || room >= container / kLastRoomDivisor) return;
  static constinit std::atomic<int64_t> again_ns{0};
  const int64_t now_ns = os::monotonic_ns();
  int64_t due_ns = again_ns.load(std::memory_order_relaxed);
  if (now_ns < due_ns) return;
  if (!again_ns.compare_exchange_strong(due_ns, now_ns + kLastRoomEveryNs,
                                        std::memory_order_relaxed)) {
    return; /* another thread tells it */
  }
  emit(EventKind::kRoomLow, room, container);
  service::wake();
  // For the thread that writes it: this one may use up what is left in a millisecond.
  static constinit std::atomic<uint32_t> nothing{0};
  os::futex_wait(nothing, 0, kLastWordNs);
}

/* The part of what was decided that needs neither a lock nor the heap. */
void follow(const decision::Begun& begun, const PacerInput& input,
            const decision::News& news) noexcept {
  account::set_quantum_bytes(
      quantum_for(input.limit_bytes, input.paced_bytes, allocator().thread_count()));
  allocator().set_cache_bytes(cache_for(input.limit_bytes));
  if (begun.level != begun.level_before) {
    emit(EventKind::kLevel, static_cast<int>(begun.level_before), static_cast<int>(begun.level),
         input.paced_bytes, input.limit_bytes);
  }
  decision::tell(news);
  if (begun.purges_in_vain) footprint::is_over(input.limit_bytes);
  announce_the_end(begun);
}

void purge_if_due(const decision::Begun& begun) noexcept {
  rest_watch::note(decision::purge_input());
  if (!begun.purge) return;
  purge::ask(begun.purge_thorough ? purge::Depth::kAll : purge::Depth::kLargePieces);
}

/* Half of the room that the limit leaves in the container is used up: the kernel kills next. */
bool kernel_is_near() noexcept {
  const int64_t room = paced::room_bytes();
  const int64_t limit = pressure::limit_bytes();
  return room >= 0 && room < (paced::bytes_with_idle() + room - limit) / 2;
}

/* Level critical begins half way from where usage rests to the limit. Whoever waits only over the limit has gone past it,
 * and what is held beyond usage comes on top. Measured, peak RSS of a ring at 300, 250 and 200 MiB: 1.02, 1.02 and 1.03
 * of the limit when waits begin at the limit, and 1.00, 1.00 and 1.01. */
void assist_if_critical(const decision::Begun& begun) noexcept {
  if (begun.level >= Level::kCritical) assist::wait(!begun.limit_let_go && kernel_is_near());
}

/* As now(), where the thread may be anywhere, inside the allocator or our own locks: waits for no lock and
 * leaves the heap alone. False when somebody must look again, because a round is due or whoever holds the
 * lock may not have seen what the caller insists on. */
bool in_passing(bool insist) noexcept {
  const PacerInput input = sample_for_look();
  decision::News news;
  decision::Begun begun;
  if (!decision::decide(input, decision::Lock::kTry, decision::Rounds::kLeave, &begun, &news)) {
    return !insist;
  }
  follow(begun, input, news);
  // Without a service thread this one would have to purge.
  if (service::running()) purge_if_due(begun);
  assist_if_critical(begun);
  return !begun.left;
}

bool lacks_service() noexcept {
  return !service::running() && (wants_service() || service::awaited());
}

void bring_service() noexcept {
  if (service::running()) return;
  if (wants_service()) {
    service::start_unless_aside();
  } else {
    service::start_after_a_moment();
  }
}

void ask_others() noexcept {
  participants::ask_if_wanted();
  if (participants::wants_service()) service::wake();
}

}  // namespace

void now(bool insist) noexcept {
  const PacerInput input = sample_for_look();
  decision::News news;
  decision::Begun begun;
  const auto lock = insist ? decision::Lock::kInsist : decision::Lock::kTry;
  if (!decision::decide(input, lock, decision::Rounds::kBegin, &begun, &news)) return;
  follow(begun, input, news);
  purge_if_due(begun);
  round::begin(begun, input);
  assist_if_critical(begun);
}

void after_allocation(int64_t bytes) noexcept {
  if (ReentryGuard::inside()) return;
  if (MEMLIMIT_UNLIKELY(service::awaited())) bring_service();
  if (!pressure::active()) return;
  ReentryGuard reentry;
  const int64_t limit = pressure::limit_bytes();
  footprint::read_if_due();
  ask_others();
  bring_service();
  const int64_t before = account::published_usage_bytes() - bytes;
  if (bytes >= kQuantumMaxBytes && before <= limit && bytes > limit - before) {
    counters::add_oversized();
    emit(EventKind::kOversized, bytes, limit - before, before + bytes);
  }
  now(bytes >= kInsistBytes);
}

void after_free() noexcept {
  if (ReentryGuard::inside() || !pressure::active()) return;
  ReentryGuard reentry;
  footprint::read_if_due();
  if (pressure::level() != Level::kLow || idle_is_worth(decision::purge_input())) now(false);
}

void after_mapping(int64_t bytes) noexcept {
  const int64_t before = pressure::add_mapped(bytes);
  if (ReentryGuard::inside() || !pressure::active()) return;
  // As often as a thread that allocates looks up: whenever another quantum is full.
  const int64_t quantum = account::quantum_bytes();
  if (bytes < quantum && before / quantum == (before + bytes) / quantum) return;
  os::ErrnoGuard errno_guard;
  ReentryGuard reentry;
  footprint::read_if_due();
  ask_others();
  const bool done = in_passing(bytes >= kInsistBytes);
  if (!done && service::running()) {
    requests::want_look();
    service::wake();
  }
  // A runtime may allocate a few small blocks for each heap that it maps: the first of them looks.
  if (done && !lacks_service()) return;
  allocator().look_at_next_allocation();
  participants::visit_soon();
}

void after_unmapping(int64_t bytes) noexcept {
  if (pressure::active()) footprint::due_sooner(bytes);
}

void at_group() noexcept {
  if (!pressure::active() || paced::mode() != AccountMode::kCgroup) return;
  footprint::read();
  now(false);
}

bool wants_service() noexcept {
  const int64_t limit = pressure::limit_bytes();
  if (limit == 0 && !service::awaited()) return false;
  const int64_t usage = account::published_usage_bytes() - inherited.usage_bytes;
  if (limit == 0) return usage >= kServiceUsageBytes;
  // The footprint of a runtime's process says little before rounds are near: small scripts are to stay
  // without a second thread.
  return usage >= std::min(kServiceUsageBytes, limit / kServiceLimitDivisor) ||
         paced::own_bytes() - inherited.own_bytes >= limit / kServiceFootprintDivisor ||
         may_pass_unseen(footprint::touch_sight());
}

namespace {

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  inherited = {account::published_usage_bytes(), paced::own_bytes()};
}

}  // namespace

constinit const fork::Part kForkPart{.name = "look", .reset = reset_after_fork};

}  // namespace memlimit::look
