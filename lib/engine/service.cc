/* See service.h. The thread sleeps in poll() on an eventfd that wake() writes, and on the descriptors of its tasks. */
#include "engine/service.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/thread_state.h"
#include "observe/event_ring.h"
#include "system/lock.h"
#include "system/os.h"

namespace memlimit::service {
namespace {

/* ASYNC hooks run on this stack: what a program's own worker threads would have, less the luxury. Only
 * touched pages count. */
constexpr size_t kStackBytes = size_t{1} << 20;

/* After pthread_create failed (RLIMIT_NPROC, a seccomp filter), the next try comes this much later. */
constexpr int64_t kRetryNs = 1'000'000'000;

/* How long the thread sleeps while it has no eventfd, or may not poll(). */
constexpr int kDeafMs = 1000;

/* The longest sleep. A program that closes all descriptors closes the eventfd, too; the kernel keeps it for
 * a poll() that is under way, which nobody can end any more. The next one is told, and makes another. */
constexpr int kLongestSleepMs = 5000;

/* stop() waits this long for the thread to hang up on its clients. */
constexpr int64_t kStopWaitNs = 200'000'000;

constexpr int64_t kNsPerMs = 1'000'000;

enum class State : uint32_t { kStopped, kStarting, kRunning, kStopping };

constinit Lock start_lock{LockRank::kService};
constinit std::atomic<uint32_t> state{static_cast<uint32_t>(State::kStopped)};
constinit std::atomic<int> wake_fd{-1};
/* Of wake_fd. The kernel has one inode for all eventfds and their like: what is told from them is a program's file,
 * socket or pipe. So it is written once, before there is a thread, and read by all. */
constinit os::FileId wake_id{};
constinit std::atomic<int> owner_pid{0};  /* of the process that started the thread */
constinit std::atomic<uint32_t> woken{0}; /* 1: the eventfd is readable, or about to be */
constinit std::atomic<bool> deaf{false};  /* poll() failed: the thread sleeps on `woken` itself */
constinit std::atomic<int> start_error{0};
constinit int64_t retry_at_ns MEMLIMIT_GUARDED_BY(start_lock) = 0;
constinit bool at_exit MEMLIMIT_GUARDED_BY(start_lock) = false;

/* Written before the first start(), which the thread's creation follows. */
constinit const Task* tasks[kMaxTasks]{};
constinit size_t task_count = 0;

State now() noexcept { return static_cast<State>(state.load(std::memory_order_acquire)); }
void become(State next) noexcept {
  state.store(static_cast<uint32_t>(next), std::memory_order_release);
}

/* Milliseconds for poll(): until the next deadline of any kind. */
int sleep_ms() noexcept {
  int64_t deadline_ns = INT64_MAX;
  for (size_t i = 0; i < task_count; ++i) {
    if (tasks[i]->due_ns != nullptr) deadline_ns = std::min(deadline_ns, tasks[i]->due_ns());
  }
  if (deadline_ns == INT64_MAX) return kLongestSleepMs;
  const int64_t left_ns = deadline_ns - os::monotonic_ns();
  if (left_ns <= 0) return 0;
  return static_cast<int>(std::min<int64_t>(left_ns / kNsPerMs + 1, kLongestSleepMs));
}

int make_wake_fd() noexcept {
  if (wake_fd.load(std::memory_order_relaxed) >= 0) return 0;
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return errno;
  fd = os::move_fd_high(fd);
  if (wake_id == os::FileId{} && !os::file_id(fd, &wake_id)) {
    os::close_file(fd);
    return EIO;
  }
  wake_fd.store(fd, std::memory_order_seq_cst);
  return 0;
}

/* The program may close all descriptors, ours among them, and open files under the same numbers: those are not to be
 * read from, written to or closed. */
bool is_wake_fd(int fd) noexcept {
  os::FileId id;
  return fd >= 0 && os::file_id(fd, &id) && id == wake_id;
}

/* Waiting on a file of the program's would return at once for ever, or never. */
bool wake_fd_is_lost(const pollfd& waited) noexcept {
  if (!is_wake_fd(waited.fd)) return true;
  if ((waited.revents & POLLIN) == 0) return false;
  uint64_t ignored;
  const ssize_t got = read(waited.fd, &ignored, sizeof ignored);
  return got != sizeof ignored && (got >= 0 || errno != EAGAIN);
}

/* What each task's descriptor had, where it has one. */
struct Readiness {
  Turn::Ready of[kMaxTasks];

  void set_all(Turn::Ready ready) noexcept { std::fill(std::begin(of), std::end(of), ready); }
};

void sleep_until_woken(Readiness* readiness) noexcept {
  make_wake_fd();
  pollfd fds[1 + kMaxTasks];
  size_t waiting_task[1 + kMaxTasks];
  nfds_t count = 0;
  fds[count++] = {wake_fd.load(std::memory_order_relaxed), POLLIN, 0};
  for (size_t i = 0; i < task_count; ++i) {
    if (tasks[i]->wait_fd == nullptr) continue;
    // A negative descriptor is passed over, so a task that waits for nothing now needs no case of its own.
    waiting_task[count] = i;
    fds[count++] = {tasks[i]->wait_fd(), POLLIN, 0};
  }
  // Without an eventfd (the table was full when it was replaced) nobody can wake us: look again soon.
  // A wake() that came before there was one wrote nowhere; seq_cst, so that it saw the new one or is seen.
  const bool asleep = woken.load(std::memory_order_seq_cst) == 0;
  const int timeout_ms = !asleep ? 0 : fds[0].fd >= 0 ? sleep_ms() : kDeafMs;
  const int ready = ::poll(fds, count, timeout_ms);
  // More descriptors than RLIMIT_NOFILE (0 or 1 in sandboxes) are too many: EINVAL, at once for ever.
  const bool refused = ready < 0 && errno != EINTR;
  // Set before the wait looks at `woken`: a wake() either comes before that look, which then does not wait,
  // or sees that the futex is to be woken. (Each writes its own word and reads the other's, seq_cst.)
  deaf.store(refused, std::memory_order_seq_cst);
  if (refused) os::futex_wait(woken, 0, std::min(timeout_ms, kDeafMs) * kNsPerMs);
  if (fds[0].fd >= 0 && wake_fd_is_lost(fds[0])) wake_fd.store(-1, std::memory_order_seq_cst);
  readiness->set_all(ready > 0 ? Turn::Ready::kNo : Turn::Ready::kUnknown);
  for (nfds_t i = 1; ready > 0 && i < count; ++i) {
    if (fds[i].revents != 0) readiness->of[waiting_task[i]] = Turn::Ready::kYes;
  }
  // Cleared before the work is looked for: a wake() that comes from here on writes again. An exchange, to
  // see the work of those that came before.
  woken.exchange(0, std::memory_order_seq_cst);
}

bool tasks_have_work() noexcept {
  for (size_t i = 0; i < task_count; ++i) {
    if (tasks[i]->has_work != nullptr && tasks[i]->has_work()) return true;
  }
  return false;
}

/* After `woken` was set. */
void rouse() noexcept {
  // Both: a thread that was deaf may be about to try poll() again.
  if (deaf.load(std::memory_order_seq_cst)) os::futex_wake(woken, 1);
  const int fd = wake_fd.load(std::memory_order_seq_cst);
  const uint64_t one = 1;
  if (is_wake_fd(fd)) os::write_all(fd, reinterpret_cast<const char*>(&one), sizeof one);
}

void* run(void*) noexcept {
  ReentryGuard reentry;
  this_thread.is_service = true;
  prctl(PR_SET_NAME, "memlimit");
  const int pid = os::process_id();
  emit(EventKind::kServiceStarted, os::thread_id());
  for (size_t i = 0; i < task_count; ++i) {
    if (tasks[i]->begin != nullptr) tasks[i]->begin();
  }
  uint32_t starting = static_cast<uint32_t>(State::kStarting);
  state.compare_exchange_strong(starting, static_cast<uint32_t>(State::kRunning));
  Readiness readiness;
  readiness.set_all(Turn::Ready::kUnknown);
  while (now() != State::kStopping) {
    for (size_t i = 0; i < task_count; ++i) {
      tasks[i]->run({os::monotonic_ns(), readiness.of[i]});
      // A hook forked and this is the child's copy of the thread: nothing here is ours any more. Not by
      // pthread_exit(), which unwinds the stack and ends the process where a function is noexcept.
      if (os::process_id() != pid) return nullptr;
    }
    if (tasks_have_work()) {
      readiness.set_all(Turn::Ready::kUnknown); /* descriptors are looked after in between */
    } else {
      sleep_until_woken(&readiness);
    }
  }
  for (size_t i = task_count; i > 0; --i) {
    if (tasks[i - 1]->end != nullptr) tasks[i - 1]->end();
  }
  become(State::kStopped);
  os::futex_wake(state, INT32_MAX);
  return nullptr;
}

/* The new thread inherits the mask: no signal of the program's may ever be delivered to it. */
int create_thread() noexcept {
  sigset_t all, saved;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &saved);
  pthread_attr_t attributes;
  int result = pthread_attr_init(&attributes);
  if (result == 0) {
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    pthread_t thread;
    result = pthread_create(&thread, &attributes, run, nullptr);
    pthread_attr_destroy(&attributes);
  }
  pthread_sigmask(SIG_SETMASK, &saved, nullptr);
  return result;
}

/* In the child of fork. */
void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  start_lock.reset_after_fork();
  const int fd = wake_fd.exchange(-1, std::memory_order_relaxed);
  if (is_wake_fd(fd)) os::close_file(fd);
  woken.store(0, std::memory_order_relaxed);
  deaf.store(false, std::memory_order_relaxed);
  retry_at_ns = 0;
  become(State::kStopped);
}

}  // namespace

bool add_task(const Task& task) noexcept {
  if (task_count == kMaxTasks) return false;
  tasks[task_count++] = &task;
  return true;
}

void start() noexcept {
  if (now() != State::kStopped || task_count == 0) return;
  os::ErrnoGuard errno_guard;
  // pthread_create allocates: what it allocates must not lead back here.
  ReentryGuard reentry;
  if (!start_lock.try_lock()) return;
  if (now() == State::kStopped && !at_exit && os::monotonic_ns() >= retry_at_ns) {
    int error = make_wake_fd();
    if (error == 0) {
      owner_pid.store(os::process_id(), std::memory_order_relaxed);
      become(State::kStarting);
      error = create_thread();
      if (error != 0) become(State::kStopped);
    }
    // The same once more is no news: it is tried again each second.
    const int before = start_error.exchange(error, std::memory_order_relaxed);
    if (error != 0 && error != before) emit(EventKind::kServiceFailed, error);
    if (error != 0) retry_at_ns = os::monotonic_ns() + kRetryNs;
  }
  start_lock.unlock();
}

bool running() noexcept {
  const State seen = now();
  return seen == State::kStarting || seen == State::kRunning;
}

void wake() noexcept {
  if (running() && woken.exchange(1, std::memory_order_seq_cst) == 0) rouse();
}

int last_error() noexcept { return start_error.load(std::memory_order_relaxed); }

void stop() noexcept {
  ReentryGuard reentry;
  {
    LockGuard guard(start_lock);
    at_exit = true;
  }
  // A child that was made without fork's handlers (a raw clone) has the parent's state, and its socket is the parent's.
  if (!running() || owner_pid.load(std::memory_order_relaxed) != os::process_id()) return;
  become(State::kStopping);
  woken.exchange(1, std::memory_order_seq_cst);
  rouse();
  const int64_t deadline_ns = os::monotonic_ns() + kStopWaitNs;
  for (int64_t left = kStopWaitNs; left > 0 && now() == State::kStopping;
       left = deadline_ns - os::monotonic_ns()) {
    os::futex_wait(state, static_cast<uint32_t>(State::kStopping), left);
  }
  // It hangs in a hook, or does not hear us since the program closed its descriptors.
  if (now() != State::kStopping) return;
  for (size_t i = 0; i < task_count; ++i) {
    if (tasks[i]->cut_off != nullptr) tasks[i]->cut_off();
  }
}

constinit const fork::Part kForkPart{"service", fork::hold<start_lock>, fork::let_go<start_lock>,
                                     reset_after_fork};

}  // namespace memlimit::service
