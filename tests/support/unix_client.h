/* A client of a Unix socket that never blocks, so that one thread can play any number of clients and the
 * server too.
 */
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace memlimit::test {

class UnixClient {
 public:
  /** '@' in front stands for an abstract name. */
  explicit UnixClient(std::string_view path) {
    fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    if (path.front() == '@') address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() +
                                             (path.front() == '@' ? 0 : 1));
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0) {
      connect_error_ = errno;
      leave();
    }
  }
  ~UnixClient() { leave(); }
  UnixClient(UnixClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        connect_error_(other.connect_error_),
        received_(std::move(other.received_)),
        ended_(other.ended_) {}
  UnixClient& operator=(UnixClient&&) = delete;

  int fd() const { return fd_; }
  bool connected() const { return fd_ >= 0; }
  int connect_error() const { return connect_error_; }

  /** Sends as much as the socket takes now; returns how much, or -errno. */
  ssize_t send_some(std::string_view text) {
    const ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
  }

  /** No more will be sent. */
  void end_input() { shutdown(fd_, SHUT_WR); }

  void leave() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  /** Reads what is there, at most `most` bytes; returns all that was received so far. */
  const std::string& received(size_t most = SIZE_MAX) {
    char buffer[65536];
    while (!ended_ && most > 0) {
      const ssize_t got =
          recv(fd_, buffer, most < sizeof buffer ? most : sizeof buffer, MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      if (got < 0) error_ = errno;
      if (got <= 0) {
        ended_ = true;
        break;
      }
      received_.append(buffer, static_cast<size_t>(got));
      most -= static_cast<size_t>(got);
    }
    return received_;
  }

  /** The server has closed the connection, as far as received() got to see. */
  bool ended() const { return ended_; }
  /** errno of the read that ended it; 0 for an orderly end. */
  int error() const { return error_; }

 private:
  int fd_ = -1;
  int connect_error_ = 0;
  std::string received_;
  bool ended_ = false;
  int error_ = 0;
};

}  // namespace memlimit::test
