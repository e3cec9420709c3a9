/* See bell.h. */
#include "engine/bell.h"

#include <algorithm>
#include <atomic>
#include <cerrno>

#include <sys/eventfd.h>
#include <unistd.h>

#include "system/attributes.h"
#include "system/low_numbers.h"
#include "system/os.h"

namespace memlimit::service::bell {
namespace {

/* How long a wait lasts without an eventfd, or where poll() is refused. */
constexpr int kDeafMs = 1000;

constexpr int64_t kNsPerMs = 1'000'000;

constinit MEMLIMIT_FORK_DATA std::atomic<int> wake_fd{-1};
/* Of wake_fd. The kernel has one inode for all eventfds and their like: what is told from them is a program's file,
 * socket or pipe. So it is written once, before there is a thread, and read by all. */
constinit MEMLIMIT_FORK_DATA os::FileId wake_id{};
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> woken{
    0}; /* 1: the eventfd is readable, or about to be */
constinit MEMLIMIT_FORK_DATA std::atomic<bool> deaf{
    false}; /* poll() failed: the thread sleeps on `woken` itself */
constinit MEMLIMIT_FORK_DATA bool rang_before = false; /* the service thread's */

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

}  // namespace

int make() noexcept {
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

void ring() noexcept {
  if (woken.exchange(1, std::memory_order_seq_cst) != 0) return;
  // Both: a thread that was deaf may be about to try poll() again.
  if (deaf.load(std::memory_order_seq_cst)) os::futex_wake(woken, 1);
  const int fd = wake_fd.load(std::memory_order_seq_cst);
  const uint64_t one = 1;
  if (is_wake_fd(fd)) os::write_all(fd, reinterpret_cast<const char*>(&one), sizeof one);
}

int wait(pollfd* fds, size_t count, int longest_ms) noexcept {
  // What was lost is not opened again at a number that the program is about to use.
  if (wake_fd.load(std::memory_order_relaxed) < 0 && low_numbers::may_take()) make();
  fds[0] = {wake_fd.load(std::memory_order_relaxed), POLLIN, 0};
  // Without an eventfd (the table was full when it was replaced) nobody can wake us: look again soon.
  // A ring that came before there was one wrote nowhere; seq_cst, so that it saw the new one or is seen.
  const bool asleep = woken.load(std::memory_order_seq_cst) == 0;
  const int timeout_ms = !asleep ? 0 : fds[0].fd >= 0 ? longest_ms : std::min(longest_ms, kDeafMs);
  const int ready = ::poll(fds, count, timeout_ms);
  // More descriptors than RLIMIT_NOFILE (0 or 1 in sandboxes) are too many: EINVAL, at once for ever.
  const bool refused = ready < 0 && errno != EINTR;
  // Set before the wait looks at `woken`: a ring either comes before that look, which then does not wait,
  // or sees that the futex is to be woken. (Each writes its own word and reads the other's, seq_cst.)
  deaf.store(refused, std::memory_order_seq_cst);
  if (refused) os::futex_wait(woken, 0, std::min(timeout_ms, kDeafMs) * kNsPerMs);
  if (fds[0].fd >= 0 && wake_fd_is_lost(fds[0])) wake_fd.store(-1, std::memory_order_seq_cst);
  // Cleared before the work is looked for: a ring that comes from here on writes again. An exchange, to
  // see the work of those that came before.
  rang_before = woken.exchange(0, std::memory_order_seq_cst) != 0;
  return ready;
}

bool rang() noexcept { return rang_before; }

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  const int fd = wake_fd.exchange(-1, std::memory_order_relaxed);
  if (is_wake_fd(fd)) os::close_file(fd);
  woken.store(0, std::memory_order_relaxed);
  deaf.store(false, std::memory_order_relaxed);
}

}  // namespace memlimit::service::bell
