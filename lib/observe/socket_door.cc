#include "observe/socket_door.h"

#include <cerrno>

#include <sys/epoll.h>
#include <unistd.h>

#include "observe/socket_io.h"
#include "system/attributes.h"
#include "system/raw_call.h"

namespace memlimit {

int SocketDoor::open(int listen_fd) noexcept {
  if (!os::file_id(listen_fd, &listener_id_)) listener_id_ = {};
  listen_fd_.store(listen_fd);
  const int epoll_fd = os::move_fd_high(epoll_create1(EPOLL_CLOEXEC));
  if (epoll_fd < 0) return -errno;
  epoll_event interest{EPOLLIN, {.u64 = kListenerKey}};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &interest) != 0) {
    const int failed = errno;
    ::close(epoll_fd);
    return -failed;
  }
  listening_ = true;
  again_ns_ = 0;
  epoll_fd_.store(epoll_fd);
  return 0;
}

void SocketDoor::close() noexcept { close_both(socket_io::hang_up); }

// Only closed: shutdown() and epoll_ctl() would reach through to what the parent goes on using.
MEMLIMIT_CHILD_CODE void SocketDoor::close_copies() noexcept { close_both(os::close_file); }

/* The set first, which is known by the listener. */
MEMLIMIT_CHILD_CODE void SocketDoor::close_both(void (*close_socket)(int)) noexcept {
  const int epoll_fd = epoll_fd_.exchange(-1), listen_fd = listen_fd_.exchange(-1);
  listening_ = false;
  if (!socket_io::is_file(listen_fd, listener_id_)) return;
  if (has_listener(epoll_fd, listen_fd)) os::close_file(epoll_fd);
  close_socket(listen_fd);
}

bool SocketDoor::is_ours() const noexcept {
  const int epoll_fd = epoll_fd_.load(), listen_fd = listen_fd_.load();
  return socket_io::is_file(listen_fd, listener_id_) && has_listener(epoll_fd, listen_fd);
}

/* Epoll sets share one inode with eventfds and others; but no other has the listener in it. */
MEMLIMIT_CHILD_CODE bool SocketDoor::has_listener(int epoll_fd, int listen_fd) noexcept {
  if (epoll_fd < 0) return false;
  // Not EPOLL_CTL_MOD: the set may be the parent's, who changes what it waits for meanwhile.
  epoll_event nothing{0, {.u64 = kListenerKey}};
  const long added =
      os::raw_call(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_ADD, listen_fd, os::address(&nothing));
  if (added != 0) return added == -EEXIST;
  os::raw_call(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_DEL, listen_fd);  // a set of the program's
  return false;
}

void SocketDoor::listen() noexcept { set_listening(true); }

void SocketDoor::stop_listening(int64_t again_ns) noexcept {
  again_ns_ = again_ns;
  set_listening(false);
}

void SocketDoor::set_listening(bool wanted) noexcept {
  if (listening_ == wanted) return;
  epoll_event interest{wanted ? static_cast<uint32_t>(EPOLLIN) : 0U, {.u64 = kListenerKey}};
  epoll_ctl(epoll_fd_.load(), EPOLL_CTL_MOD, listen_fd_.load(), &interest);
  listening_ = wanted;
}

bool SocketDoor::watch(int fd, uint32_t events, uint64_t key, bool watched_already) noexcept {
  epoll_event interest{events, {.u64 = key}};
  const int operation = watched_already ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  return epoll_ctl(epoll_fd_.load(), operation, fd, &interest) == 0;
}

void SocketDoor::unwatch(int fd) noexcept {
  epoll_ctl(epoll_fd_.load(), EPOLL_CTL_DEL, fd, nullptr);
}

}  // namespace memlimit
