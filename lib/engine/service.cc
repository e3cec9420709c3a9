/* See service.h. The thread sleeps in poll() on two descriptors: an eventfd that wake() writes, and the
 * socket's own epoll set. */
#include "engine/service.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/assist.h"
#include "engine/hooks.h"
#include "engine/limit.h"
#include "engine/paced.h"
#include "engine/reclaim.h"
#include "engine/thread_state.h"
#include "observe/event_ring.h"
#include "observe/log.h"
#include "observe/stats_socket.h"
#include "observe/stats_text.h"
#include "runtimes/registry.h"
#include "runtimes/sqlite.h"
#include "settings/config_values.h"
#include "settings/units.h"
#include "system/lock.h"
#include "system/os.h"
#include "system/procfs.h"

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

/* How often the thread looks at a group whose working set is paced, from the level moderate on and below
 * it: 25 microseconds each time. */
constexpr int64_t kGroupPressedNs = 100'000'000;
constexpr int64_t kGroupCalmNs = 1'000'000'000;

constexpr int64_t kNsPerSecond = 1'000'000'000;
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

constinit const Config* config = nullptr;
constinit char xdg_runtime_dir[108] = {};
constinit StatsSocket stats_socket{};

State now() noexcept { return static_cast<State>(state.load(std::memory_order_acquire)); }
void become(State next) noexcept {
  state.store(static_cast<uint32_t>(next), std::memory_order_release);
}

/* The figures that the service itself knows. */
void add_own_figures(memlimit_stats* figures) noexcept {
  figures->events_dropped = static_cast<int64_t>(process_events().dropped());
  figures->socket_requests = stats_socket.requests();
  figures->socket_refused = stats_socket.refused();
}

size_t render(void*, StatsFile file, char* buffer, size_t cap) noexcept {
  if (file == StatsFile::kConfig) return render_config(*config, buffer, cap);
  if (shows_figures_only(file)) {
    memlimit_stats figures{};
    reclaim::fill_figures(&figures, reclaim::kRssAgeNs);
    add_own_figures(&figures);
    return render_figures(file, figures, buffer, cap);
  }
  Snapshot snapshot;
  reclaim::fill(&snapshot);
  procfs::process_name(snapshot.name, sizeof snapshot.name);
  add_own_figures(&snapshot.figures);
  snapshot.limit_invalid =
      config->state(Option::kLimit).source == Source::kInvalid && snapshot.figures.limit == 0;
  return render_file(file, snapshot, buffer, cap);
}

bool set_limit(void*, std::string_view text, const Peer&, char* error, size_t cap) noexcept {
  LimitSetting setting;
  if (!parse_limit(text, &setting, error, cap)) return false;
  limit::apply(setting, LimitSource::kSocket);
  return true;
}

/* Who is refused may come again at once: what it can fill the log with is a line a second. */
void note_refusal(void*, const Peer& peer) noexcept {
  static constinit RateLimiter once_a_second{kNsPerSecond};
  if (once_a_second.allow(os::monotonic_ns())) emit(EventKind::kSocketRefused, peer.uid);
}

void open_socket() noexcept {
  if (config->socket.kind == SocketKind::kOff) return;
  const SocketPlace place{config->socket.text, xdg_runtime_dir, config->socket_mode};
  const SocketContent content{nullptr, render, set_limit, note_refusal};
  char error[256];
  const int result = stats_socket.open(place, content, error, sizeof error);
  emit(result == 0 ? EventKind::kSocketOpened : EventKind::kSocketFailed, -result);
  if (result != 0) process_log().write(LogLevel::kWarn, error);
}

/* For format_event(), on this thread only. */
const char* hook_name(int64_t slot) noexcept {
  static constinit char name[sizeof(HookRow::name)] = {};
  return hooks::name_of(static_cast<int>(slot), name, sizeof name) ? name : nullptr;
}

void tell_events() noexcept {
  Event event;
  while (process_events().pop(&event)) {
    char line[320];
    process_log().event(event, hook_name);
    if (!stats_socket.has_subscribers()) continue;
    const size_t length = format_event(event, hook_name, line, sizeof line);
    stats_socket.publish_event({line, length});
  }
}

/* "heap 301 MiB / limit 512 MiB, level moderate". */
void write_report() noexcept {
  memlimit_stats figures{};
  reclaim::fill_figures(&figures);
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

/* Something that happens every so often, while anybody wants it. */
struct Timer {
  int64_t due_ns = INT64_MAX;

  void set(int64_t now_ns, int64_t interval_ns) noexcept {
    due_ns = interval_ns > 0 ? now_ns + interval_ns : INT64_MAX;
  }
  bool due(int64_t now_ns) const noexcept { return now_ns >= due_ns; }
};
constinit Timer report_timer{};
constinit Timer container_timer{};
constinit Timer group_timer{};

void run_timers(int64_t now_ns) noexcept {
  if (report_timer.due(now_ns)) {
    write_report();
    report_timer.set(now_ns, config->report_seconds * kNsPerSecond);
  }
  if (!limit::follows_container()) {
    container_timer.due_ns = INT64_MAX;
  } else if (container_timer.due_ns == INT64_MAX || container_timer.due(now_ns)) {
    limit::refresh();
    container_timer.set(now_ns, limit::kRefreshNs);
  }
  // A program that sleeps in a container that others fill gives its part, too.
  if (!limit::follows_container()) {
    group_timer.due_ns = INT64_MAX;
  } else if (group_timer.due_ns == INT64_MAX || group_timer.due(now_ns)) {
    reclaim::look_at_group();
    const bool pressed = reclaim::level() >= Level::kModerate;
    group_timer.set(now_ns, pressed ? kGroupPressedNs : kGroupCalmNs);
  }
  char line[1280];
  bool problem;
  if (limit::take_news(line, sizeof line, &problem)) {
    if (problem) {
      process_log().problem(line);
    } else {
      process_log().write(LogLevel::kInfo, line);
    }
  }
}

/* Milliseconds for poll(): until the next deadline of any kind. */
int sleep_ms() noexcept {
  static_assert(StatsSocket::kNever == INT64_MAX);
  const int64_t deadline_ns = std::min({stats_socket.next_deadline_ns(), report_timer.due_ns,
                                        container_timer.due_ns, group_timer.due_ns});
  if (deadline_ns == INT64_MAX) return kLongestSleepMs;
  const int64_t left_ns = deadline_ns - os::monotonic_ns();
  if (left_ns <= 0) return 0;
  return static_cast<int>(std::min<int64_t>(left_ns / 1'000'000 + 1, kLongestSleepMs));
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

bool socket_is_lost(const pollfd& waited) noexcept {
  return waited.revents != 0 && !stats_socket.is_intact();
}

/* True when the socket has something to do: a client that is ready, a deadline. */
bool sleep_until_woken() noexcept {
  make_wake_fd();
  pollfd fds[2] = {{wake_fd.load(std::memory_order_relaxed), POLLIN, 0},
                   {stats_socket.wait_fd(), POLLIN, 0}};
  // A negative descriptor is passed over, so a closed socket needs no case of its own.
  // Without an eventfd (the table was full when it was replaced) nobody can wake us: look again soon.
  // A wake() that came before there was one wrote nowhere; seq_cst, so that it saw the new one or is seen.
  const bool asleep = woken.load(std::memory_order_seq_cst) == 0;
  const int timeout_ms = !asleep ? 0 : fds[0].fd >= 0 ? sleep_ms() : kDeafMs;
  const int ready = ::poll(fds, 2, timeout_ms);
  // Two descriptors are too many where RLIMIT_NOFILE is 0 or 1, as in sandboxes: EINVAL, at once for ever.
  const bool refused = ready < 0 && errno != EINTR;
  // Set before the wait looks at `woken`: a wake() either comes before that look, which then does not wait,
  // or sees that the futex is to be woken. (Each writes its own word and reads the other's, seq_cst.)
  deaf.store(refused, std::memory_order_seq_cst);
  if (refused) os::futex_wait(woken, 0, std::min(timeout_ms, kDeafMs) * kNsPerMs);
  if (fds[0].fd >= 0 && wake_fd_is_lost(fds[0])) wake_fd.store(-1, std::memory_order_seq_cst);
  if (ready > 0 && socket_is_lost(fds[1])) {
    stats_socket.abandon();
    open_socket();
  }
  // Cleared before the work is looked for: a wake() that comes from here on writes again. An exchange, to
  // see the work of those that came before.
  woken.exchange(0, std::memory_order_seq_cst);
  return fds[1].revents != 0 || ready <= 0;
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
  process_log().open(*config);
  assist::set_worker(os::thread_id());
  emit(EventKind::kServiceStarted, os::thread_id());
  report_timer.set(os::monotonic_ns(), config->report_seconds * kNsPerSecond);
  open_socket();
  uint32_t starting = static_cast<uint32_t>(State::kStarting);
  state.compare_exchange_strong(starting, static_cast<uint32_t>(State::kRunning));
  bool clients = true;
  while (now() != State::kStopping) {
    if (adapters::service_wanted()) adapters::serve();
    adapters::sqlite::serve();
    reclaim::serve();
    // A hook forked and this is the child's copy of the thread: nothing here is ours any more. Not by pthread_exit(),
    // which unwinds the stack and ends the process where a function is noexcept.
    if (os::process_id() != pid) return nullptr;
    const int64_t now_ns = os::monotonic_ns();
    run_timers(now_ns);
    if (clients || now_ns >= stats_socket.next_deadline_ns()) stats_socket.handle(now_ns);
    // After the requests: the event that one of them caused (a new limit) would wait for the next wake().
    tell_events();
    // Clients are looked after in between while work does not end.
    clients = reclaim::has_pending_work() || sleep_until_woken();
  }
  tell_events();
  stats_socket.close();
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

}  // namespace

void configure(const Config& settings, const char* xdg) noexcept {
  config = &settings;
  // One that does not fit names no place for a socket either: sun_path is as long.
  if (xdg != nullptr && strlen(xdg) < sizeof xdg_runtime_dir) {
    snprintf(xdg_runtime_dir, sizeof xdg_runtime_dir, "%s", xdg);
  }
}

void start() noexcept {
  if (now() != State::kStopped || config == nullptr) return;
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
  if (now() == State::kStopping) stats_socket.remove_path();
}

void lock_for_fork() noexcept { start_lock.lock_for_fork(); }
void unlock_after_fork() noexcept { start_lock.unlock_after_fork(); }

void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  start_lock.reset_after_fork();
  const int fd = wake_fd.exchange(-1, std::memory_order_relaxed);
  if (is_wake_fd(fd)) os::close_file(fd);
  stats_socket.forget_after_fork();
  process_events().reset_after_fork();
  process_log().reset_after_fork();
  emit(EventKind::kForked, getppid(), os::process_id());
  report_timer = {};
  container_timer = {};
  group_timer = {};
  woken.store(0, std::memory_order_relaxed);
  deaf.store(false, std::memory_order_relaxed);
  retry_at_ns = 0;
  become(State::kStopped);
}

}  // namespace memlimit::service
