/* The listening socket and the epoll set that it stands in: where clients come in, and whether it is still ours.
 *
 * Answers for: no number is used that has become the program's. It may have closed every descriptor and opened files
 * of its own under the same numbers, so each is compared with what was opened: a socket has an inode to itself, and
 * the epoll set is known by the listener in it. Refuses to know clients (socket_slots.h).
 * Threads: the service thread, apart from close_copies() in the child of fork.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "system/os.h"

namespace memlimit {

class SocketDoor {
 public:
  /* What epoll_wait() says of the listener; slots have smaller numbers. */
  static constexpr uint64_t kListenerKey = UINT64_MAX;

  constexpr SocketDoor() noexcept = default;
  SocketDoor(const SocketDoor&) = delete;
  SocketDoor& operator=(const SocketDoor&) = delete;

  /** Takes over a listening socket. 0, or -errno: then it is to be closed. */
  int open(int listen_fd) noexcept;

  /** Hangs up on whoever waits to come in. What the program has opened under our numbers is left alone. */
  void close() noexcept;

  /** In the child of fork: lets go of the parent's descriptors. */
  void close_copies() noexcept;

  bool is_open() const noexcept { return epoll_fd() >= 0; }
  int epoll_fd() const noexcept { return epoll_fd_.load(std::memory_order_relaxed); }
  int listen_fd() const noexcept { return listen_fd_.load(std::memory_order_relaxed); }

  /** Whether both descriptors are still the files that were opened. Two system calls. */
  bool is_ours() const noexcept;

  /** Whether the set reports who wants to come in. */
  bool is_listening() const noexcept { return listening_; }
  void listen() noexcept;

  /** Level-triggered: while nobody can be admitted, a waiting client would wake the thread all the time. */
  void stop_listening(int64_t again_ns) noexcept;

  /** When to look again at who waits; CLOCK_MONOTONIC. Has a meaning while not listening. */
  int64_t again_ns() const noexcept { return again_ns_; }
  void look_at_once() noexcept { again_ns_ = 0; }

  /** Puts a client into the set, or changes what it is watched for. False: the kernel has no memory for it. */
  bool watch(int fd, uint32_t events, uint64_t key, bool watched_already) noexcept;

  /** Takes a client out of the set, by hand, before its descriptor is closed. */
  void unwatch(int fd) noexcept;

 private:
  void set_listening(bool wanted) noexcept;
  void close_both(void (*close_socket)(int)) noexcept;
  static bool has_listener(int epoll_fd, int listen_fd) noexcept;

  /* Descriptors are written before close(2) and after creation, so that the child of a fork at any
   * moment never closes a number that by then is the program's. */
  std::atomic<int> epoll_fd_{-1};
  std::atomic<int> listen_fd_{-1};
  os::FileId listener_id_{};
  bool listening_ = false; /* the listener is in the epoll set with EPOLLIN */
  int64_t again_ns_ = 0;
};

}  // namespace memlimit
