/* Subscribers of `events`: each has a queue of bounded length, and what does not fit is counted and told.
 *
 * Answers for: a line arrives whole or not at all; who reads nothing costs its queue, and its place as soon as
 * somebody else needs it. Refuses to read requests (socket_talk.h) and to know what an event is.
 * Threads: the service thread.
 */
#pragma once

#include <cstdint>
#include <string_view>

#include "observe/socket_content.h"
#include "observe/socket_slots.h"

namespace memlimit {

class SocketStreams {
 public:
  constexpr SocketStreams(SocketSlots* slots, SocketCounts* counts) noexcept
      : slots_(slots), counts_(counts) {}

  /** Makes a subscriber of a client and sends what comes first. False when there is no place for it. */
  bool join(SocketClient& client, bool http, const SocketContent& content, int64_t now_ns) noexcept;

  /** Sends a line, without its newline, to every subscriber. `now_ns`: when it is found that one does not keep up. */
  void publish(std::string_view line, int64_t now_ns) noexcept;

  /** What the epoll set tells of a subscriber. */
  void handle(SocketClient& client, uint32_t events, int64_t now_ns) noexcept;

 private:
  bool drop_stalled(int64_t now_ns) noexcept;
  void queue(SocketClient& client, std::string_view line, int64_t now_ns) noexcept;
  void flush(SocketClient& client, int64_t now_ns) noexcept;
  void read(SocketClient& client, int64_t now_ns) noexcept;

  SocketSlots* slots_;
  SocketCounts* counts_;
};

}  // namespace memlimit
