/* Where the statistics socket lives: chooses the place, prepares its directory, sweeps what dead
 * processes left there, binds.
 *
 * Answers for: the file appears complete (listening, with its final mode), in a directory that
 * nobody else can have prepared as a trap, and never in place of something that is not a dead
 * socket of ours. Refuses to read the environment (it may have changed; the settings come as
 * arguments) and to follow a symbolic link in the last component. Threads: the service thread; also
 * the starting thread before there is one.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace memlimit {

/** What the settings say about the place. The views need only live during the call. */
struct SocketPlace {
  std::string_view setting; /* MEMLIMIT_SOCKET: a path with %p %h %%, a directory, or empty */
  std::string_view xdg_runtime_dir; /* $XDG_RUNTIME_DIR at start, or empty */
  unsigned mode = 0600;             /* MEMLIMIT_SOCKET_MODE */

  /* Tests put these elsewhere, and let the kernel buffer less of an answer. */
  std::string_view run_dir = "/run/memlimit";
  std::string_view tmp_dir = "/tmp";
  int send_buffer_bytes = 0; /* 0: the system's default */
};

/** A socket that was bound, and how to recognise it later. */
struct BoundSocket {
  int fd = -1;         /* listening, non-blocking, close-on-exec, moved high */
  char path[112] = {}; /* absolute; for an abstract name '@' stands for its leading NUL */
  bool abstract = false;
  uint64_t device = 0, inode = 0; /* of the path; 0 for an abstract name */
};

/**
 * Whether MEMLIMIT_SOCKET could name a place at all: length once expanded, the % sequences. Does no
 * I/O but asking for the host's name. Writes a sentence fragment to error (cap bytes) and returns
 * false when not.
 */
bool check_socket_setting(std::string_view setting, char* error, size_t cap) noexcept;

/**
 * Binds and listens. With a setting: there or nowhere. Without: the first of run_dir/<pid>.sock,
 * $XDG_RUNTIME_DIR/memlimit/, tmp_dir/memlimit-<uid>/, the abstract name memlimit/<pid> that works.
 * A name that another live process has (containers with a pid each of 1, sharing a volume) gets -2,
 * -3 ... appended, where we chose the name.
 *
 * Blocks for file operations only. Allocates nothing. Returns 0, or -errno with one line about what
 * is wrong and what to do in error (cap bytes); -EADDRINUSE: another live process has the path.
 */
int bind_stats_socket(const SocketPlace& place, BoundSocket* out, char* error, size_t cap) noexcept;

/** Removes the path if it still is the very socket that was bound; closes nothing. */
void unlink_stats_socket(const BoundSocket& bound) noexcept;

}  // namespace memlimit
