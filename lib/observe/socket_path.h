/* Where the statistics socket lives: chooses the place, prepares it, binds.
 *
 * Answers for: MEMLIMIT_SOCKET's place or none; without it the first of the usual places that works and that nobody
 * else can have prepared as a trap; and for words that tell what is wrong with a place. Refuses to read the
 * environment (it may have changed; the settings come as arguments). Threads: the service thread; also the starting
 * thread before there is one.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "observe/socket_bind.h"

namespace memlimit {

/** What the settings say about the place. The views need only live during the call. */
struct SocketPlace {
  std::string_view setting; /* MEMLIMIT_SOCKET: a path with %p %h %%, a directory, or empty */
  std::string_view xdg_runtime_dir; /* $XDG_RUNTIME_DIR at start, or empty */
  unsigned mode = 0600;             /* MEMLIMIT_SOCKET_MODE */
  bool forked = false;              /* a copy of the program that was started: takes nothing over */

  /* Tests put these elsewhere, and let the kernel buffer less of an answer. */
  std::string_view run_dir = "/run/memlimit";
  std::string_view tmp_dir = "/tmp";
  int send_buffer_bytes = 0; /* 0: the system's default */
};

/**
 * Binds and listens. With a setting: there or nowhere. Without: the first of run_dir/<pid>.sock,
 * $XDG_RUNTIME_DIR/memlimit/, tmp_dir/memlimit-<uid>/, the abstract name memlimit/<pid> that works.
 * A name that another live process has (containers with a pid each of 1, sharing a volume) gets -2,
 * -3 ... appended, where we chose the name.
 *
 * A name that a wrapper has (socket_kin.h) is taken over from it.
 *
 * Blocks for file operations only. Allocates nothing. Returns 0, or -errno with one line about what
 * is wrong and what to do in error (cap bytes); -EADDRINUSE: another live process has the path; -EALREADY: it is of the
 * same family, and no wrapper. Of both out->holder_pid says which.
 */
int bind_stats_socket(const SocketPlace& place, BoundSocket* out, char* error, size_t cap) noexcept;

/** What would keep this process from having the socket that the setting names, as bind_stats_socket() says it; 0: nothing
 *  that can be seen beforehand. Makes nothing, and asks no more than who listens at the path. */
int check_stats_socket(const SocketPlace& place, char* error, size_t cap) noexcept;

/** Whether a name that another process had is free: there is no file any more, or its holder has ended. */
bool named_place_is_free(const SocketPlace& place, int holder_pid) noexcept;

}  // namespace memlimit
