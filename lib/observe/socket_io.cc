#include "observe/socket_io.h"

#include <cerrno>

#include <sys/socket.h>
#include <unistd.h>

#include "system/attributes.h"

namespace memlimit::socket_io {

ssize_t send_some(int fd, const char* text, size_t length) noexcept {
  ssize_t sent;
  do {
    sent = send(fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

ssize_t receive_some(int fd, char* buffer, size_t cap) noexcept {
  ssize_t got;
  do {
    got = recv(fd, buffer, cap, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  return got;
}

bool would_block(int error) noexcept { return error == EAGAIN || error == EWOULDBLOCK; }

MEMLIMIT_CHILD_CODE bool is_file(int fd, const os::FileId& id) noexcept {
  os::FileId now;
  return fd >= 0 && os::file_id(fd, &now) && now == id;
}

void hang_up(int fd) noexcept {
  shutdown(fd, SHUT_RDWR);
  close(fd);
}

}  // namespace memlimit::socket_io
