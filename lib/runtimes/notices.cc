/* See notices.h. The protocol: systemd.io/MEMORY_PRESSURE. */
#include "runtimes/notices.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/hooks.h"
#include "engine/paced.h"
#include "memlimit.h"
#include "settings/config_values.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::runtimes {
namespace {

constexpr int64_t kMs = 1'000'000;

/* Not more often than this: a program is not made for its cache-drop signal to come by the thousand. */
constexpr int64_t kSignalGapNs = 20 * kMs;

/* How long a notice is watched, and how often. What the program frees later is the next round's to see. */
constexpr int64_t kWatchNs = 20 * kMs;
constexpr int64_t kWatchStepNs = kMs;

constexpr char kWatchVariable[] = "MEMORY_PRESSURE_WATCH";
constexpr char kWriteVariable[] = "MEMORY_PRESSURE_WRITE";
constexpr char kOwnPath[] = "/proc/self/fd/";

constinit int signal_number = 0;
constinit MEMLIMIT_FORK_DATA int64_t next_signal_ns = 0; /* service thread */

/* The pipe whose reading end programs open by name. Both ends stay open here, so that a write never
 * meets a pipe without readers. */
struct Pipe {
  int read_fd = -1;
  int write_fd = -1;
  dev_t device = 0;
  ino_t inode = 0;
};
constinit MEMLIMIT_FORK_DATA Pipe pressure_pipe{};

/* Waits until the program has given what is wanted, for a bounded time. What it has given, or "cannot
 * now": a notice that has not been heeded yet is not fruitless. */
int64_t watch(const memlimit_request& request, int64_t before_bytes) noexcept {
  const std::atomic<uint32_t> never{0};
  const int64_t deadline_ns = os::monotonic_ns() + kWatchNs;
  int64_t fallen = 0;
  while (fallen < request.wanted_bytes && os::monotonic_ns() < deadline_ns) {
    os::futex_wait(never, 0, kWatchStepNs);
    fallen = before_bytes - paced::own_bytes();
  }
  return fallen > 0 ? fallen : MEMLIMIT_CANNOT_NOW;
}

bool program_handles(int number) noexcept {
  struct sigaction action {};
  if (sigaction(number, nullptr, &action) != 0) return false;
  if ((action.sa_flags & SA_SIGINFO) != 0) return action.sa_sigaction != nullptr;
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

int64_t send_signal(const memlimit_request* request, void*) {
  if (request->level < MEMLIMIT_MODERATE || !program_handles(signal_number)) {
    return MEMLIMIT_CANNOT_NOW;
  }
  const int64_t now_ns = os::monotonic_ns();
  if (now_ns < next_signal_ns) return MEMLIMIT_CANNOT_NOW;
  next_signal_ns = now_ns + kSignalGapNs;
  const int64_t before = paced::own_bytes();
  // To the process: the kernel picks a thread that does not block it, as for a signal from outside.
  if (syscall(SYS_kill, os::process_id(), signal_number) != 0) return MEMLIMIT_CANNOT_NOW;
  return watch(*request, before);
}

/* Programs close descriptors they did not open, and may have files of their own at these numbers. */
bool pipe_is_ours(int fd) noexcept {
  struct stat status {};
  return fd >= 0 && fstat(fd, &status) == 0 && status.st_dev == pressure_pipe.device &&
         status.st_ino == pressure_pipe.inode;
}

int64_t write_notice(const memlimit_request* request, void*) {
  if (request->level < MEMLIMIT_MODERATE) return MEMLIMIT_CANNOT_NOW;
  if (!pipe_is_ours(pressure_pipe.read_fd) || !pipe_is_ours(pressure_pipe.write_fd)) {
    return MEMLIMIT_CANNOT_NOW;
  }
  // One notice at a time: what has not been read yet still says it all.
  int unread = 0;
  if (ioctl(pressure_pipe.read_fd, FIONREAD, &unread) != 0 || unread > 0) {
    return MEMLIMIT_CANNOT_NOW;
  }
  const int64_t before = paced::own_bytes();
  os::write_all(pressure_pipe.write_fd, "!", 1);
  return watch(*request, before);
}

bool note_identity(Pipe* pipe) noexcept {
  struct stat status {};
  if (fstat(pipe->read_fd, &status) != 0) return false;
  pipe->device = status.st_dev;
  pipe->inode = status.st_ino;
  return true;
}

/* Whether another program's memlimit set it (the environment is inherited), or nobody. */
bool watch_is_free() noexcept {
  const char* const value = getenv(kWatchVariable);
  return value == nullptr || *value == '\0' || strncmp(value, kOwnPath, sizeof kOwnPath - 1) == 0;
}

bool open_pipe() noexcept {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  Pipe pipe;
  pipe.read_fd = os::move_fd_high(fds[0]);
  pipe.write_fd = os::move_fd_high(fds[1]);
  if (!note_identity(&pipe)) return false;
  char path[sizeof kOwnPath + 16];
  snprintf(path, sizeof path, "%s%d", kOwnPath, pipe.read_fd);
  if (setenv(kWatchVariable, path, 1) != 0) return false;
  unsetenv(kWriteVariable);
  pressure_pipe = pipe;
  return true;
}

void add_hook(const char* name, int64_t (*reclaim)(const memlimit_request*, void*)) noexcept {
  memlimit_hook hook{};
  hook.size = sizeof hook;
  hook.name = name;
  hook.context = MEMLIMIT_ASYNC;
  hook.reclaim = reclaim;
  memlimit_hook_id id;
  hooks::add(hook, &id);
}

/* In the child of fork: notices in the parent's pipe would reach the parent. */
MEMLIMIT_COLD void replace_pipe() noexcept {
  os::ErrnoGuard errno_guard;
  int fds[2] = {-1, -1};
  const bool ours = pipe_is_ours(pressure_pipe.read_fd) && pipe_is_ours(pressure_pipe.write_fd);
  if (!ours || pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
    pressure_pipe = {}; /* without one of its own it gives no notices */
    return;
  }
  dup3(fds[0], pressure_pipe.read_fd, O_CLOEXEC);
  dup3(fds[1], pressure_pipe.write_fd, O_CLOEXEC);
  os::close_file(fds[0]);
  os::close_file(fds[1]);
  note_identity(&pressure_pipe);
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  next_signal_ns = 0;
  if (pressure_pipe.read_fd >= 0) replace_pipe();
}

}  // namespace

void configure_notices(const Config& config) noexcept {
  if (config.signal_number > 0) {
    signal_number = config.signal_number;
    char name[16];
    render_option(config, Option::kSignal, name, sizeof name);
    char text[32];
    snprintf(text, sizeof text, "signal:%s", name);
    add_hook(text, send_signal);
  }
  if (config.pressure && watch_is_free() && open_pipe()) add_hook("pressure", write_notice);
}

constinit const fork::Part kNoticesForkPart{.name = "notices", .reset = reset_after_fork};

}  // namespace memlimit::runtimes
