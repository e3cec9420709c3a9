/* Where the texts of the statistics socket come from: the server knows only text. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "observe/request.h"
#include "observe/socket_access.h"

namespace memlimit {

/** Where the texts come from. Both run on the service thread and may take their time within reason:
 *  other clients wait meanwhile. */
struct SocketContent {
  void* context;
  /** Writes the file's text, at most cap bytes; returns its length. Asked for every file; for
   * kEvents the text is what a new subscriber is sent first. */
  size_t (*render)(void* context, StatsFile file, char* buffer, size_t cap);
  /** Changes the limit to what the text says ("300MiB", "off"). On failure false, with the reason
   * in error (one line, no newline, no "memlimit:"), and the old limit stays. */
  bool (*set_limit)(void* context, std::string_view text, const Peer& peer, char* error,
                    size_t cap);
  /** Somebody who may not even read was turned away. May be null. */
  void (*refused)(void* context, const Peer& peer) = nullptr;
  /** As set_limit() for the heap profile ("on", "64KiB", "off"); on success writes the line that answers. May be null: it
   *  cannot be changed. */
  bool (*set_profile)(void* context, std::string_view text, char* answer, size_t cap) = nullptr;
};

/** Since the socket was opened: requests answered, clients turned away. */
struct SocketCounts {
  int64_t requests = 0;
  int64_t refused = 0;
};

}  // namespace memlimit
