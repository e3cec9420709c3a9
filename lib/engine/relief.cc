/* See relief.h. Who serves is one word, `turn`: whoever changes it from one side's value to the other's hands over, by
 * release and acquire, all that tasks keep without a lock. */
#include "engine/relief.h"

#include <atomic>

#include <sys/prctl.h>

#include "engine/thread_state.h"
#include "system/attributes.h"
#include "system/low_numbers.h"
#include "system/os.h"
#include "system/thread.h"

namespace memlimit::service::relief {
namespace {

/* Only tasks run on it, no hook. */
constexpr size_t kStackBytes = size_t{256} << 10;

/* Who is away for longer is stood in for. Hooks take a millisecond or so, and each wake-up costs some 30 microseconds. */
constexpr int64_t kTickNs = 50'000'000;

constexpr int64_t kGoneWaitNs = 50'000'000;

/* After the thread could not be made, so many absences pass until it is tried again. */
constexpr uint32_t kRetryAbsences = 1000;

enum Turn : uint32_t {
  kService,    /* the service thread serves */
  kNobody,     /* it is away, and the other one may take over */
  kRelief,     /* the other one serves */
  kWantedBack, /* it does, and the service thread waits for it to end */
};

struct State {
  std::atomic<uint32_t> turn{kService}; /* futex: who serves */
  std::atomic<uint32_t> absences{0};    /* told from one another */
  std::atomic<uint32_t> parked{0};     /* futex: 1 while the thread sleeps until the next absence */
  std::atomic<uint32_t> dismissals{0}; /* futex: each thread is one generation's */
  std::atomic<int> count{0};
  std::atomic<int> tid{0}; /* 0: it has not begun */
  void (*serve)() noexcept = nullptr;
  int pid = 0;                   /* of the process in which the service thread went away */
  uint32_t retry_at_absence = 0; /* the service thread's */
};
constinit MEMLIMIT_FORK_DATA State state{};

/* Of the thread that asks. One that could not be waited for stays dismissed when there is a new one. */
MEMLIMIT_TLS uint32_t generation = 0;

bool is_dismissed() noexcept {
  return state.dismissals.load(std::memory_order_seq_cst) != generation;
}

uint32_t turn() noexcept { return state.turn.load(std::memory_order_acquire); }

bool change(uint32_t from, uint32_t to) noexcept {
  return state.turn.compare_exchange_strong(from, to, std::memory_order_acq_rel);
}

void take_over() noexcept {
  if (!change(kNobody, kRelief)) return;
  state.serve();
  if (change(kRelief, kNobody)) return;
  state.turn.store(kService, std::memory_order_release);
  os::futex_wake(state.turn, 1);
}

/* Until the service thread goes away again. seq_cst: each side writes its own word and reads the other's, and at least
 * one of the two sees what the other has written. */
void park() noexcept {
  state.parked.store(1, std::memory_order_seq_cst);
  if (state.turn.load(std::memory_order_seq_cst) != kNobody && !is_dismissed()) {
    os::futex_wait(state.parked, 1, -1);
  }
  state.parked.store(0, std::memory_order_relaxed);
}

void unpark() noexcept {
  if (state.parked.load(std::memory_order_seq_cst) == 0) return;
  state.parked.store(0, std::memory_order_relaxed);
  os::futex_wake(state.parked, 1);
}

void* run(void* argument) noexcept {
  ReentryGuard reentry;
  this_thread.is_service = true;
  low_numbers::be_considerate();
  generation = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(argument));
  prctl(PR_SET_NAME, "memlimit-relief");
  state.tid.store(os::thread_id(), std::memory_order_release);
  while (!is_dismissed()) {
    const uint32_t absence = state.absences.load(std::memory_order_relaxed);
    if (turn() != kNobody) {
      park();
      continue;
    }
    os::futex_wait(state.dismissals, generation, kTickNs);
    const bool same = state.absences.load(std::memory_order_relaxed) == absence;
    if (same && !is_dismissed()) take_over();
  }
  return nullptr;
}

void make_thread() noexcept {
  state.tid.store(0, std::memory_order_relaxed);
  state.count.store(1, std::memory_order_relaxed);
  const uintptr_t number = state.dismissals.load(std::memory_order_relaxed);
  if (os::start_thread(kStackBytes, run, reinterpret_cast<void*>(number)) == 0) return;
  state.count.store(0, std::memory_order_relaxed);
  state.retry_at_absence = state.absences.load(std::memory_order_relaxed) + kRetryAbsences;
}

}  // namespace

void leave(void (*serve)() noexcept) noexcept {
  state.serve = serve;
  state.pid = os::process_id();
  const uint32_t absence = state.absences.fetch_add(1, std::memory_order_relaxed);
  state.turn.store(kNobody, std::memory_order_seq_cst);
  if (count() == 0 && absence >= state.retry_at_absence) make_thread();
  unpark();
}

void come_back(void (*wake)() noexcept) noexcept {
  // In the child of a fork that the hook made it is nobody's turn but this thread's, also when it was made without
  // fork's handlers (a raw clone).
  if (os::process_id() != state.pid) state.turn.store(kService, std::memory_order_relaxed);
  while (turn() != kService && !change(kNobody, kService)) {
    if (change(kRelief, kWantedBack)) wake();
    os::futex_wait(state.turn, kWantedBack, -1);
  }
}

bool on_duty() noexcept { return turn() == kRelief && !is_dismissed(); }

bool serves() noexcept { return turn() >= kRelief; }

void dismiss() noexcept {
  if (count() == 0) return;
  state.dismissals.fetch_add(1, std::memory_order_seq_cst);
  os::futex_wake(state.dismissals, 1);
  unpark();
  const int64_t until_ns = os::monotonic_ns() + kGoneWaitNs;
  for (;;) {
    const int tid = state.tid.load(std::memory_order_acquire);
    if (tid != 0 && !os::thread_exists(tid)) break;
    // It will end, and is not this process's to wait for any longer.
    if (os::monotonic_ns() >= until_ns) break;
    os::yield();
  }
  state.count.store(0, std::memory_order_relaxed);
}

int count() noexcept { return state.count.load(std::memory_order_relaxed); }

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  if (turn() != kService) state.turn.store(kService, std::memory_order_relaxed);
  if (count() == 0) return;
  state.parked.store(0, std::memory_order_relaxed);
  state.count.store(0, std::memory_order_relaxed);
}

}  // namespace memlimit::service::relief
