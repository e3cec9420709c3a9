/* See service.h. The thread is detached, and nobody joins it: fork() may come from a signal handler that interrupted
 * pthread_create(), and glibc's lists of stacks are locked then. */
#include "engine/service.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include <sys/prctl.h>

#include "engine/bell.h"
#include "engine/relief.h"
#include "engine/thread_state.h"
#include "observe/event_ring.h"
#include "system/attributes.h"
#include "system/lock.h"
#include "system/lone_thread.h"
#include "system/low_numbers.h"
#include "system/os.h"
#include "system/thread.h"

namespace memlimit::service {
namespace {

/* For tasks alone. Only touched pages count; but who locks memory pays for address space, and 8 MiB is what a user may lock. */
constexpr size_t kSmallStackBytes = size_t{128} << 10;
/* For the program's code, too: what its own worker threads would have, less the luxury. */
constexpr size_t kStackBytes = size_t{1} << 20;

/* After pthread_create failed (RLIMIT_NPROC, a seccomp filter), the next try comes this much later. */
constexpr int64_t kRetryNs = 1'000'000'000;

/* stop() waits this long for the thread to hang up on its clients. */
constexpr int64_t kStopWaitNs = 200'000'000;

/* step_aside() waits this long for a task to return, and as long for the kernel to forget the thread. */
constexpr int64_t kLeaveWaitNs = 50'000'000;

/* fork() has it step aside twice, see preload/aside.cc: who has just waited in vain waits no more. */
constexpr int64_t kInVainNs = 5'000'000;

/* A program that sets up its sandbox does so in milliseconds after it has started; one that forks or gives up privileges
 * has its next step behind it by then. */
constexpr int64_t kMomentNs = 1'000'000'000;
constexpr int64_t kAsideNs = 100'000'000;

/* What a start and an end cost, half of a fork, is spent once in so long on a program that forks and forks; and at once for so
 * many forks in a row: who starts its workers and then waits in a way that nobody sees is to be answered for. */
constexpr int64_t kReturnEveryNs = 100'000'000;
constexpr int64_t kReturnsAtOnce = 16;

enum class State : uint32_t { kStopped, kStarting, kRunning, kLeaving, kStopping };

constinit MEMLIMIT_FORK_DATA Lock start_lock{LockRank::kService};
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> state{static_cast<uint32_t>(State::kStopped)};
constinit MEMLIMIT_FORK_DATA std::atomic<int> owner_pid{
    0}; /* of the process that started the thread */
constinit MEMLIMIT_FORK_DATA std::atomic<int> service_tid{0};
constinit MEMLIMIT_FORK_DATA std::atomic<int> start_error{0};
constinit MEMLIMIT_FORK_DATA int64_t retry_at_ns MEMLIMIT_GUARDED_BY(start_lock) = 0;
constinit MEMLIMIT_FORK_DATA bool at_exit MEMLIMIT_GUARDED_BY(start_lock) = false;
/* libc took this for a process of a single thread until it made ours, which is to be undone when the thread has gone. */
constinit MEMLIMIT_FORK_DATA bool owes_libc MEMLIMIT_GUARDED_BY(start_lock) = false;

/* Relaxed: each is a reason to start or not, and says nothing of other memory. */
struct Awaited {
  std::atomic<bool> is{false};
  std::atomic<int> pid{0};              /* of the process that awaits */
  std::atomic<uint64_t> signal_mask{0}; /* of a thread that started it, in no signal handler */
  std::atomic<int64_t> at_look_ns{
      0}; /* from when on a look starts the thread; 0: the first one says */
  std::atomic<int64_t> aside_until_ns{0};
  std::atomic<bool> after_fork{true}; /* comes back in the parent at once */
  std::atomic<bool> may_be_back{
      false}; /* the thread was there, and has not gone and come too often of late */
};
constinit MEMLIMIT_FORK_DATA Awaited awaits{};

/* Of the thread that runs, or is being started. */
constinit MEMLIMIT_FORK_DATA std::atomic<bool> stack_is_small{false};
/* Whose place it takes; 0: nobody's. */
constinit MEMLIMIT_FORK_DATA std::atomic<int> predecessor_tid{0};

/* The service thread's. */
constinit MEMLIMIT_FORK_DATA bool begun = false;
constinit MEMLIMIT_FORK_DATA bool stops_at_exit = false;

State now() noexcept { return static_cast<State>(state.load(std::memory_order_acquire)); }
void become(State next) noexcept {
  state.store(static_cast<uint32_t>(next), std::memory_order_release);
}
bool change(State from, State to) noexcept {
  auto seen = static_cast<uint32_t>(from);
  return state.compare_exchange_strong(seen, static_cast<uint32_t>(to), std::memory_order_acq_rel);
}

void enter() noexcept {
  if (!stops_at_exit) atexit(stop);
  stops_at_exit = true;
  tasks::enter(!begun);
  begun = true;
}

bool goes_on() noexcept {
  const State seen = now();
  return (seen == State::kStarting || seen == State::kRunning) && !lacks_room();
}

void end_tasks() noexcept {
  tasks::end();
  become(State::kStopped);
  os::futex_wake(state, INT32_MAX);
}

void await_from(int64_t at_look_ns) noexcept {
  awaits.pid.store(os::process_id(), std::memory_order_relaxed);
  awaits.at_look_ns.store(at_look_ns, std::memory_order_relaxed);
  awaits.is.store(true, std::memory_order_relaxed);
}

/* On the other thread. It does not step aside: whoever waits for that, waits in vain until the hook returns. */
void stand_in() noexcept {
  tasks::serve(Server::kRelief, os::process_id(),
               []() noexcept { return relief::on_duty() && goes_on(); });
  if (now() == State::kStopping) end_tasks();
}

/* A thread that has ended is counted by the kernel until it has been taken off its lists. */
void wait_until_gone(int tid) noexcept {
  const int64_t until_ns = os::monotonic_ns() + kLeaveWaitNs;
  while (os::thread_exists(tid) && os::monotonic_ns() < until_ns) os::yield();
}

bool hand_over() noexcept;

void* run(void*) noexcept {
  ReentryGuard reentry;
  this_thread.is_service = true;
  low_numbers::be_considerate();
  prctl(PR_SET_NAME, "memlimit");
  const int pid = os::process_id();
  // There are never two at work, and one only where this one is waited for.
  if (const int tid = predecessor_tid.exchange(0, std::memory_order_relaxed)) wait_until_gone(tid);
  service_tid.store(os::thread_id(), std::memory_order_relaxed);
  emit(EventKind::kServiceStarted, os::thread_id());
  enter();
  change(State::kStarting, State::kRunning);
  for (;;) {
    // A hook forked and this is the child's copy of the thread: nothing here is ours any more. Not by
    // pthread_exit(), which unwinds the stack and ends the process where a function is noexcept.
    if (!tasks::serve(Server::kService, pid, goes_on)) return nullptr;
    relief::dismiss();
    // Unless whoever stood in for this thread has.
    if (now() == State::kStopping) end_tasks();
    if (lacks_room() && hand_over()) return nullptr;
    // Who waited for the thread to leave may have given up meanwhile.
    if (now() == State::kStopped || change(State::kLeaving, State::kStopped)) break;
  }
  os::futex_wake(state, INT32_MAX);
  return nullptr;
}

int create_thread() noexcept MEMLIMIT_REQUIRES(start_lock) {
  const bool is_small = !tasks::need_room();
  stack_is_small.store(is_small, std::memory_order_relaxed);
  owes_libc |= os::is_lone_thread();
  return os::start_thread(is_small ? kSmallStackBytes : kStackBytes, run, nullptr);
}

/* The same once more is no news: it is tried again each second. */
void note_start(int error) noexcept MEMLIMIT_REQUIRES(start_lock) {
  const int before = start_error.exchange(error, std::memory_order_relaxed);
  if (error != 0 && error != before) emit(EventKind::kServiceFailed, error);
  if (error != 0) retry_at_ns = os::monotonic_ns() + kRetryNs;
}

/* To a thread with room, which begins when this one has gone. Where none can be had beside this one, this one leaves, and is
 * awaited: its successor has its place in whatever is full. False: this one goes on.
 *
 * Without start_lock, or who wants the thread to step aside meanwhile would take it for one that cannot: nobody else touches
 * what that guards before the state is kStopped. */
bool hand_over() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  if (!change(State::kRunning, State::kStarting)) return false;
  predecessor_tid.store(os::thread_id(), std::memory_order_relaxed);
  const int error = create_thread();
  if (error == 0) return true;
  predecessor_tid.store(0, std::memory_order_relaxed);
  note_start(error);
  await_from(retry_at_ns);
  if (!change(State::kStarting, State::kStopped) && !change(State::kLeaving, State::kStopped)) {
    end_tasks();
  }
  os::futex_wake(state, INT32_MAX);
  return true;
}

void wait_for_end(State from, int64_t longest_ns) noexcept {
  const int64_t until_ns = os::monotonic_ns() + longest_ns;
  for (int64_t left = longest_ns; left > 0 && now() == from; left = until_ns - os::monotonic_ns()) {
    os::futex_wait(state, static_cast<uint32_t>(from), left);
  }
}

MEMLIMIT_FORK_CODE void leave() noexcept {
  static constinit MEMLIMIT_FORK_DATA int64_t in_vain_ns = INT64_MIN / 2;
  if (os::monotonic_ns() - in_vain_ns < kInVainNs) return;
  if (!change(State::kRunning, State::kLeaving) && !change(State::kStarting, State::kLeaving))
    return;
  bell::ring();
  wait_for_end(State::kLeaving, kLeaveWaitNs);
  if (change(State::kLeaving, State::kRunning)) {
    in_vain_ns = os::monotonic_ns();
  } else {
    wait_until_gone(service_tid.load(std::memory_order_relaxed));
  }
}

/* The thread has gone. Not in what looks like a signal handler, see lone_thread.h: then the next time. */
void settle_with_libc() noexcept MEMLIMIT_REQUIRES(start_lock) {
  if (!owes_libc) return;
  if (os::blocked_signals() != awaits.signal_mask.load(std::memory_order_relaxed)) return;
  owes_libc = !os::note_lone_thread();
}

/* A bucket that leaks, as the time at which it will be empty; under start_lock. */
bool take_return(int64_t now_ns) noexcept {
  static constinit MEMLIMIT_FORK_DATA int64_t empty_at_ns = 0;
  const int64_t from_ns = std::max(empty_at_ns, now_ns);
  if (from_ns - now_ns > kReturnEveryNs * kReturnsAtOnce) return false;
  empty_at_ns = from_ns + kReturnEveryNs;
  return true;
}

/* Unless this may be a signal handler, which has its signal blocked and may have interrupted malloc; or the child of vfork. */
void start_outside_handlers() noexcept {
  if (os::process_id() != awaits.pid.load(std::memory_order_relaxed)) return;
  if (os::blocked_signals() == awaits.signal_mask.load(std::memory_order_relaxed)) start();
}

/* In the child of fork. */
MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  const bool had_it = awaited() || running();
  start_lock.reset_after_fork();
  bell::reset_after_fork();
  relief::reset_after_fork();
  retry_at_ns = 0;
  begun = false;
  awaits.aside_until_ns.store(0, std::memory_order_relaxed);
  awaits.may_be_back.store(false, std::memory_order_relaxed);
  become(State::kStopped);
  // The clock is looked at by who looks: most children never do.
  if (had_it) await_from(0);
}

}  // namespace

Away::Away() noexcept {
  if (this_thread.is_service) relief::leave(stand_in);
}

Away::~Away() {
  if (this_thread.is_service) relief::come_back(bell::ring);
}

bool lacks_room() noexcept {
  return stack_is_small.load(std::memory_order_relaxed) && this_thread.is_service &&
         tasks::need_room();
}

bool is_stuck() noexcept { return relief::serves(); }

void start() noexcept {
  if (now() != State::kStopped || !tasks::any()) return;
  // A hook forked, and this is the child's copy of the thread, on its way out.
  if (this_thread.is_service) return;
  os::ErrnoGuard errno_guard;
  // pthread_create allocates: what it allocates must not lead back here.
  ReentryGuard reentry;
  if (!start_lock.try_lock()) return;
  if (now() == State::kStopped && !at_exit && os::monotonic_ns() >= retry_at_ns) {
    int error = bell::make();
    if (error == 0) {
      owner_pid.store(os::process_id(), std::memory_order_relaxed);
      become(State::kStarting);
      awaits.signal_mask.store(os::blocked_signals(), std::memory_order_relaxed);
      error = create_thread();
      if (error != 0) become(State::kStopped);
    }
    note_start(error);
    if (error == 0) awaits.is.store(false, std::memory_order_relaxed);
  }
  start_lock.unlock();
}

void start_unless_aside() noexcept {
  const int64_t until_ns = awaits.aside_until_ns.load(std::memory_order_relaxed);
  if (until_ns == 0 || os::monotonic_ns() >= until_ns) start();
}

bool awaited() noexcept { return awaits.is.load(std::memory_order_relaxed); }

void await() noexcept {
  awaits.signal_mask.store(os::blocked_signals(), std::memory_order_relaxed);
  await_from(os::monotonic_ns() + kMomentNs);
}

void stay_aside_after_fork() noexcept { awaits.after_fork.store(false, std::memory_order_relaxed); }

void start_after_a_moment() noexcept {
  if (!awaited()) return;
  const int64_t now_ns = os::monotonic_ns();
  const int64_t at_ns = awaits.at_look_ns.load(std::memory_order_relaxed);
  if (at_ns == 0) {
    awaits.at_look_ns.store(now_ns + kMomentNs, std::memory_order_relaxed);
  } else if (now_ns >= at_ns) {
    start();
  }
}

void start_before_wait(WaitFor what) noexcept {
  if (what == WaitFor::kChildren && !awaits.may_be_back.load(std::memory_order_relaxed)) return;
  if (!ReentryGuard::inside()) start_outside_handlers();
}

MEMLIMIT_FORK_CODE void step_aside() noexcept {
  if (this_thread.is_service) return;
  const bool runs = running();
  if (!runs && !awaited()) return;
  // The child of vfork, or of a raw clone, has the parent's memory or a copy of it.
  const std::atomic<int>& pid = runs ? owner_pid : awaits.pid;
  // Who forks and forks writes nothing each time.
  const int64_t aside_ns = awaits.aside_until_ns.load(std::memory_order_relaxed);
  if (!runs && aside_ns != 0 && aside_ns - os::monotonic_ns() > kAsideNs / 2) return;
  if (pid.load(std::memory_order_relaxed) != os::process_id()) return;
  os::ErrnoGuard errno_guard;
  ReentryGuard reentry;
  // Whoever holds it is not the program's only thread, or is interrupted by the signal handler that calls this.
  if (!start_lock.try_lock()) return;
  if (runs) leave();
  if (!running()) {
    settle_with_libc();
    const int64_t now_ns = os::monotonic_ns();
    const int64_t until_ns = now_ns + kAsideNs;
    awaits.aside_until_ns.store(until_ns, std::memory_order_relaxed);
    awaits.may_be_back.store(runs && take_return(now_ns), std::memory_order_relaxed);
    await_from(
        std::max(until_ns, awaited() ? awaits.at_look_ns.load(std::memory_order_relaxed) : 0));
  }
  start_lock.unlock();
}

namespace {

/* In the parent of fork, which may wait long and in ways that nobody sees. */
MEMLIMIT_FORK_CODE void come_back() noexcept {
  if (!awaited() || !awaits.after_fork.load(std::memory_order_relaxed)) return;
  if (awaits.may_be_back.load(std::memory_order_relaxed)) start_outside_handlers();
}

}  // namespace

MEMLIMIT_FORK_CODE void leave_single_thread() noexcept {
  // Where the count cannot be read, as if there were no other.
  if (running() && os::thread_count() > 2 + relief::count()) return;
  step_aside();
}

bool is_leaving() noexcept { return now() == State::kLeaving; }

bool running() noexcept {
  const State seen = now();
  return seen != State::kStopped && seen != State::kStopping;
}

void wake() noexcept {
  if (running()) bell::ring();
}

int last_error() noexcept { return start_error.load(std::memory_order_relaxed); }

void stop() noexcept {
  ReentryGuard reentry;
  {
    LockGuard guard(start_lock);
    at_exit = true;
  }
  awaits.is.store(false, std::memory_order_relaxed);
  // A child that was made without fork's handlers (a raw clone) has the parent's state, and its socket is the parent's.
  if (!running() || owner_pid.load(std::memory_order_relaxed) != os::process_id()) return;
  become(State::kStopping);
  bell::ring();
  wait_for_end(State::kStopping, kStopWaitNs);
  if (now() != State::kStopping) {
    // What libc frees of it is freed before the program's handlers go on.
    wait_until_gone(service_tid.load(std::memory_order_relaxed));
    return;
  }
  // It hangs in a hook, or does not hear us since the program closed its descriptors.
  tasks::cut_off();
}

constinit const fork::Part kAsidePart{
    .name = "aside", .hold = leave_single_thread, .let_go = come_back, .alone = true};

constinit const fork::Part kForkPart{"service", fork::hold<start_lock>, fork::let_go<start_lock>,
                                     reset_after_fork};

}  // namespace memlimit::service
