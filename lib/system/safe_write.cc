#include "system/safe_write.h"

#include <cerrno>
#include <csignal>
#include <ctime>

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "system/os.h"

namespace memlimit {
namespace {

/**
 * Holds back the signals that a failed write sends to its own thread, and takes them away again. Setting
 * them to "ignored" instead would change the whole process, MSG_NOSIGNAL knows sockets only.
 */
class WriteSignalBlock {
 public:
  WriteSignalBlock() noexcept {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGPIPE);
    sigaddset(&signals_, SIGXFSZ);
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    // One that was already pending is the program's: it stays.
    pipe_was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    size_was_pending_ = sigismember(&pending, SIGXFSZ) == 1;
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  WriteSignalBlock(const WriteSignalBlock&) = delete;
  WriteSignalBlock& operator=(const WriteSignalBlock&) = delete;

  ~WriteSignalBlock() {
    if (pipe_was_pending_) sigdelset(&signals_, SIGPIPE);
    if (size_was_pending_) sigdelset(&signals_, SIGXFSZ);
    const timespec now{};
    while (raised_ && sigtimedwait(&signals_, nullptr, &now) < 0 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

  void note(int error) noexcept { raised_ = raised_ || error == EPIPE || error == EFBIG; }

 private:
  sigset_t signals_, before_;
  bool pipe_was_pending_ = false, size_was_pending_ = false, raised_ = false;
};

/** 0 when a write would find room, else -errno. */
int wait_for_room(int fd, int wait_ms) noexcept {
  pollfd entry{fd, POLLOUT, 0};
  int ready = 0;
  do {
    ready = static_cast<int>(poll(&entry, 1, wait_ms));
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return -errno;
  if (ready == 0) return -EAGAIN;
  if ((entry.revents & POLLNVAL) != 0) return -EBADF;
  // POLLERR is left to write(2), which knows the reason.
  return 0;
}

}  // namespace

int safe_write(int fd, const char* text, size_t length, int wait_ms) noexcept {
  os::ErrnoGuard errno_guard;
  WriteSignalBlock signals;
  while (length > 0) {
    if (const int error = wait_for_room(fd, wait_ms)) return error;
    const ssize_t put = write(fd, text, length);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      signals.note(errno);
      return -errno;
    }
    if (put == 0) return -ENOSPC;
    text += put;
    length -= static_cast<size_t>(put);
  }
  return 0;
}

}  // namespace memlimit
