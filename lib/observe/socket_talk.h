/* One client from its first byte to the end of its answer: reads a request, answers it, listens for a while to
 * whoever is still writing, and runs out of patience.
 *
 * Answers for: every client is told what is wrong with its request, if it cares to read. Refuses to wait, to admit
 * anybody (stats_socket.h) and to serve subscribers, whom it hands on (socket_streams.h).
 * Threads: the service thread.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "observe/request.h"
#include "observe/socket_access.h"
#include "observe/socket_content.h"
#include "observe/socket_slots.h"
#include "observe/socket_streams.h"

namespace memlimit {

class SocketTalk {
 public:
  constexpr SocketTalk(SocketSlots* slots, SocketStreams* streams, const SocketAccess* access,
                       const SocketContent* content, SocketCounts* counts) noexcept
      : slots_(slots), streams_(streams), access_(access), content_(content), counts_(counts) {}

  /** Does what can be done for a client: when it has come in, and when the epoll set tells of `events`. */
  void handle(SocketClient& client, uint32_t events, int64_t now_ns) noexcept;

  /** Its time is up. */
  void expire(SocketClient& client) noexcept;

 private:
  void read(SocketClient& client, int64_t now_ns) noexcept;
  void answer(SocketClient& client, const Request& request, int64_t now_ns) noexcept;
  void change(SocketClient& client, const Request& request, int64_t now_ns) noexcept;
  bool set(const SocketClient& client, const Request& request, char* answer,
           size_t cap) const noexcept;
  static bool may_read(const SocketClient& client, StatsFile file) noexcept;
  void answer_file(SocketClient& client, const Request& request, int64_t now_ns) noexcept;
  void answer_error(SocketClient& client, const Request& request, std::string_view line,
                    int64_t now_ns) noexcept;
  void send(SocketClient& client, const char* text, size_t length, int64_t now_ns) noexcept;
  void send_rest(SocketClient& client, int64_t now_ns) noexcept;
  void finish(SocketClient& client, int64_t now_ns) noexcept;
  void linger(SocketClient& client, int64_t now_ns) noexcept;

  SocketSlots* slots_;
  SocketStreams* streams_;
  const SocketAccess* access_;
  const SocketContent* content_;
  SocketCounts* counts_;
};

}  // namespace memlimit
