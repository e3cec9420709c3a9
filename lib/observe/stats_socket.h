/* The server behind the statistics socket: one line in, one text out, close.
 *
 * Answers for: any number of slow, silent, huge, malformed or hostile clients cost a fixed amount
 * of memory and never delay anything but themselves. Knows only text; what the files contain comes
 * through SocketContent. Refuses to block, to raise SIGPIPE, and to talk to other users than the
 * settings allow. Threads: the service thread only, apart from forget_after_fork() in the child of
 * fork.
 */
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "observe/socket_access.h"
#include "observe/socket_bounds.h"
#include "observe/socket_content.h"
#include "observe/socket_door.h"
#include "observe/socket_path.h"
#include "observe/socket_slots.h"
#include "observe/socket_streams.h"
#include "observe/socket_talk.h"

namespace memlimit {

class StatsSocket : public SocketBounds {
 public:
  constexpr StatsSocket() noexcept = default;
  StatsSocket(const StatsSocket&) = delete;
  StatsSocket& operator=(const StatsSocket&) = delete;

  /** Binds (see bind_stats_socket) and starts to listen. Returns 0, or -errno with a line in error.
   * Must not be open. Allocates nothing; clients' memory is mapped when the first one comes. */
  int open(const SocketPlace& place, const SocketContent& content, char* error,
           size_t cap) noexcept;

  bool is_open() const noexcept { return door_.is_open(); }

  /** Who had the path when open() failed for that; 0: nobody, or it cannot be told. */
  int holder_pid() const noexcept { return bound_.holder_pid; }

  /** Nobody is connected. */
  bool is_idle() const noexcept { return slots_.count() == 0; }

  /** Absolute path, or '@' and the abstract name; "" when closed. */
  const char* path() const noexcept { return bound_.path; }

  /** Readable when handle() has work; -1 when closed; a number that no file has when is_intact() has become
   *  false, so that poll() returns. To be asked for again after every other call: while nobody is connected
   *  it is the listener itself, which spares the thread a way through the epoll set. */
  int wait_fd() const noexcept {
    if (lost_) return INT_MAX;
    const bool only_listening = slots_.watched() == 0 && door_.is_listening();
    return only_listening ? door_.listen_fd() : door_.epoll_fd();
  }

  /** Whether its descriptors are still its own: the program may have closed them all, and opened others
   *  under the same numbers. When not, it is to be opened again after abandon(). Two system calls. */
  bool is_intact() const noexcept;

  /** Does all that can be done without waiting. now_ns: CLOCK_MONOTONIC. Does nothing when closed or not
   *  intact. */
  void handle(int64_t now_ns) noexcept;

  /** When handle() must be called even if wait_fd() stays silent; kNever for not at all. */
  int64_t next_deadline_ns() const noexcept;

  /** Sends a line (with or without its newline) to the subscribers of `events`. One that does not
   * keep up loses whole lines, and is told how many by a line dropped=N; when it has read nothing for
   * kProgressNs, a new subscriber who finds no place may have its. */
  void publish_event(std::string_view line) noexcept;

  /** Whether anybody reads `events`; without, publish_event() costs nothing. */
  bool has_subscribers() const noexcept { return slots_.streaming() > 0; }

  /** Hangs up on everybody and removes the path if it is still ours. What the program has opened under our
   *  numbers is left alone, here and in what follows. */
  void close() noexcept;

  /** Removes the path if it is still ours, and nothing else. For the thread that ends the process, when the
   * service thread does not answer. */
  void remove_path() const noexcept { unlink_stats_socket(bound_); }

  /** As close(), and forgets what it counted: for when it is not intact. */
  void abandon() noexcept;

  /** In the child of fork: lets go of the parent's descriptors and leaves its path alone. */
  void forget_after_fork() noexcept;

  /** Since open(): requests answered, clients turned away. */
  int64_t requests() const noexcept { return counts_.requests; }
  int64_t refused() const noexcept { return counts_.refused; }

 private:
  void reset() noexcept;
  bool handle_clients(int64_t now_ns) noexcept;
  void accept_clients(int64_t now_ns) noexcept;
  bool make_room(int64_t now_ns) noexcept;
  void admit(int fd, int64_t now_ns) noexcept;

  BoundSocket bound_{};
  SocketContent content_{};
  SocketAccess access_{};
  SocketCounts counts_{};
  SocketDoor door_{};
  SocketSlots slots_{&door_};
  SocketStreams streams_{&slots_, &counts_};
  SocketTalk talk_{&slots_, &streams_, &access_, &content_, &counts_};
  int send_buffer_bytes_ = 0;
  bool lost_ = false;       /* found not to be intact */
  int64_t handled_ns_ = 0;  /* when handle() was last called */
  int64_t accepted_ns_ = 0; /* when a client was last let in */
};

}  // namespace memlimit
