/* The path of a socket as text: what MEMLIMIT_SOCKET becomes for this process, and whether a socket can have it.
 *
 * Answers for: %p, %h and %% are replaced, a relative path becomes absolute, and one too long is refused rather than
 * cut. Refuses to look at the file system, but for the working directory. Threads: any; no allocation.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sys/un.h>

#include "system/text.h"

namespace memlimit {

/* 107 bytes and a NUL. */
inline constexpr size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;

/** An absolute path short enough for a socket, or a note that it was too long. */
struct SocketPath {
  char text[kMaxSocketPath + 1] = {};
  size_t full_length = 0;
  size_t pid_at = 0, pid_end = 0; /* where the setting's last %p stands; 0 and 0 without one */
  bool has_host = false;          /* the setting has %h */
  bool fits() const noexcept { return full_length <= kMaxSocketPath; }
};

/** Collects a path that may turn out too long, and how long it would have been. */
class SocketPathWriter {
 public:
  explicit SocketPathWriter(SocketPath* path) noexcept
      : path_(path), out_(path->text, sizeof path->text) {}
  SocketPathWriter& put(std::string_view text) noexcept {
    out_.put(text);
    path_->full_length += text.size();
    return *this;
  }
  SocketPathWriter& put_number(int64_t number) noexcept;
  SocketPathWriter& put_pid() noexcept;
  SocketPathWriter& put_host() noexcept;

 private:
  SocketPath* path_;
  TextWriter out_;
};

/** Expands a setting, which is not empty, and makes it absolute, so that a later chdir does not matter. Says in
 *  `error` what is wrong with it, and returns false then. */
bool resolve_socket_setting(std::string_view setting, SocketPath* path, TextWriter* error) noexcept;

}  // namespace memlimit
